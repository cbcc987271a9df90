//! One machine, no server: a directory holds the instances and the kernel's file locks tell who lives.

//! A cluster: an etcd cluster holds the instances under leases.

//! The contracts of this workspace as Rust: one module for each protobuf package, and [`DESCRIPTORS`] for reflection.
//!
//! ```
//! let request = proto::helloworld::HelloRequest { name: "world".into() };
//! assert_eq!(request.name, "world");
//! ```

pub mod codec;
mod redacted;

/// `helloworld`: gRPC's own quick-start service.
pub mod helloworld {
    tonic::include_proto!("helloworld");
}

/// `user`: users, and who they are.
pub mod user {
    /// `user.v1`: passwords and tokens in its messages are never shown by `Debug`.
    pub mod v1 {
        tonic::include_proto!("user.v1");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of every contract, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");

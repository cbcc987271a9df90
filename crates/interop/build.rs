//! Compiles the contract of gRPC's interoperability tests. It is no contract of this workspace, so `crates/proto` has
//! none of it.

use std::{io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new("../../proto");
    tonic_prost_build::configure()
        // The caller brings its own channel.
        .build_transport(false)
        .compile_protos(&[root.join("grpc/testing/test.proto")], &[root.to_owned()])
}

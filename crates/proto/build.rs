//! Compiles the contracts in `/proto` and writes the descriptor set that servers reflect.

use std::{env, io, path::PathBuf};

const CONTRACTS: [&str; 1] = ["helloworld.proto"];

fn main() -> io::Result<()> {
    let root = PathBuf::from("../../proto");
    let descriptors =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptors.bin");
    tonic_prost_build::configure()
        // The caller brings its own channel; tonic's would only add its transport to every dependent.
        .build_transport(false)
        .file_descriptor_set_path(descriptors)
        .compile_protos(&CONTRACTS.map(|file| root.join(file)), &[root])
}

//! Compiles the contracts in `/proto` and writes the descriptor set that servers reflect.

use std::{env, io, path::PathBuf};

const CONTRACTS: [&str; 2] = ["helloworld.proto", "user/v1/user.proto"];
/// Messages with a secret in them: how they are shown is written by hand, in `src/redacted.rs`.
const SECRET: [&str; 3] = [
    ".user.v1.User",
    ".user.v1.AuthenticateRequest",
    ".user.v1.AuthenticateResponse",
];

fn main() -> io::Result<()> {
    let root = PathBuf::from("../../proto");
    let descriptors =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptors.bin");
    tonic_prost_build::configure()
        // The caller brings its own channel; tonic's would only add its transport to every dependent.
        .build_transport(false)
        .codec_path("crate::codec::Small")
        .skip_debug(SECRET)
        .file_descriptor_set_path(descriptors)
        .compile_protos(&CONTRACTS.map(|file| root.join(file)), &[root])
}

//! Compiles the .proto files with a compiler written in Rust, so that nobody has to install protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 7] = [
    "jobqueue/v1/job.proto",
    "jobqueue/v1/job_filter.proto",
    "jobqueue/v1/job_service.proto",
    "jobqueue/v1/worker_service.proto",
    "jobqueue/v1/admin_service.proto",
    "jobqueue/v1/error_service.proto",
    "jobqueue/v1/operation_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let descriptors = protox::compile(FILES, ["../proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(env::var_os("CARGO_FEATURE_TRANSPORT").is_some())
        .compile_fds(descriptors)?;
    Ok(())
}

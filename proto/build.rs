//! Compiles the .proto files with protox, so that no `protoc` is needed.

const FILES: [&str; 7] = [
    "envoy/service/accesslog/v3/als.proto",
    "prometheus/remote.proto",
    "prometheus/read.proto",
    "prometheus/write/v2.proto",
    "prometheus/client.proto",
    "zipkin/zipkin.proto",
    "google/rpc/status.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for folder in ["envoy", "prometheus", "zipkin", "google"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}

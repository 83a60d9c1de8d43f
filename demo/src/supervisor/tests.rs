use super::*;

#[tokio::test]
async fn healthy_means_an_answer_of_200() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = tokio::spawn(async move {
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /healthz/ready HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    assert!(!is_healthy(address, "/healthz/ready").await);
    assert!(is_healthy(address, "/healthz/ready").await);
    answers.await.unwrap();
    assert!(!is_healthy(address, "/healthz/ready").await, "nobody listens any more");
}

#[tokio::test]
async fn a_death_while_the_mesh_comes_up_is_told_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let mut children = Children::default();
    let mut command = Command::new("sh");
    command.args(["-c", "echo the address is taken; exit 1"]);
    children.start(Start { name: "details-v1", command, log: folder.path().join("log") }).unwrap();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let fault =
        wait_until_up(&mut children, "reviews-v1", &[(nobody, "/healthz")], deadline).await.unwrap_err();
    let fault = fault.to_string();
    assert!(fault.contains("details-v1") && fault.contains("the address is taken"), "{fault}");
}

fn config(run_dir: &Path, network: DemoNetwork) -> DemoConfig {
    DemoConfig {
        // Any file will do: nothing is started in these tests.
        pharos_binary: std::env::current_exe().unwrap(),
        proxy_binary: std::env::current_exe().unwrap(),
        run_dir: run_dir.to_owned(),
        istio_config_dir: None,
        network,
        gateway: None,
        requests_per_second: 20.0,
        backend: BackendAddresses {
            grpc: "127.0.0.1:4317".parse().unwrap(),
            zipkin: "127.0.0.1:9411".parse().unwrap(),
        },
    }
}

#[test]
fn what_cannot_run_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let check = |change: fn(&mut DemoConfig), named: &str| {
        let mut config = config(folder.path(), DemoNetwork::default());
        change(&mut config);
        let fault = Demo::prepare(config).unwrap_err().to_string();
        assert!(fault.contains(named), "{fault}");
    };
    check(|config| config.proxy_binary = "/no/pharos-proxy".into(), "/no/pharos-proxy");
    check(|config| config.requests_per_second = -3.0, "-3 requests a second");
    check(|config| config.istio_config_dir = Some("/no/istio".into()), "/no/istio");
}

#[tokio::test]
async fn a_second_demo_on_the_same_network_is_refused_with_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let network = DemoNetwork::new(91, 17);
    let _first = std::net::TcpListener::bind(network.socket(20, port::INBOUND)).unwrap();
    let demo = Demo::prepare(config(folder.path(), network)).unwrap();
    let fault = demo.run(drop, CancellationToken::new()).await.unwrap_err();
    assert!(format!("{fault:#}").contains("127.91.17.20:15006"), "{fault:#}");
}

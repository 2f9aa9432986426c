//! The proxy of `examples/nginx.conf` in front of the gateway.

use std::{net::SocketAddr, path::PathBuf};

use e2e::{
    engine::Engine,
    environment::has,
    nginx::{Directory, Nginx},
    process::Process,
    routes::{RoutesFile, header, reply_to},
    wait::{WAIT_LIMIT, within},
};
use libtest_mimic::Completion;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};

/// The file that users copy.
const CONFIG: &str = include_str!("../../../../examples/nginx.conf");

/// `authorization` is listed to see that the proxy removes it.
const ROUTES: &str = r#"
[[route]]
on = "POST /orders"
topic = "@orders"
reply_topic = "@replies"
key = "{header:x-user}"
request_headers = ["x-user", "authorization"]
timeout = "2s"
"#;

/// The name in the certificate.
const HOST: &str = "shop.test";

/// The origin that the file allows.
const ORIGIN: &str = "origin: https://shop.example";

const TOKEN: &str = "authorization: Bearer right";

/// curl, which verifies the certificate.
struct Caller {
    proxy: SocketAddr,
    certificate: PathBuf,
}

pub(crate) async fn nginx_adds_tls_identity_and_cors(engine: &Engine) -> Completion {
    for (program, flag) in [("nginx", "-v"), ("openssl", "version"), ("curl", "--version")] {
        if !has(program, flag) {
            return Completion::ignored_with(format!(
                "{program} is not installed (Debian: nginx-light, openssl, curl)"
            ));
        }
    }
    let routes = RoutesFile::new(engine.brokers().await, ROUTES);
    tokio::join!(routes.create("orders", 1), routes.create("replies", 1));
    let gateway = routes.ready(routes.gateway()).await;
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));
    let directory = Directory::create().unwrap();
    let certificate = certificate(&directory).await;
    let nginx = start(directory, &gateway).await;
    let caller = Caller {
        proxy: nginx.addr(),
        certificate,
    };

    let (status, head) = caller.call("POST", &["x-user: mallory"]).await;
    assert_eq!(status, 401, "{head}");
    let (status, head) = caller.call("POST", &["authorization: Bearer wrong"]).await;
    assert_eq!(status, 401, "{head}");
    assert_eq!(orders.read_all().await.len(), 0, "nothing reaches the gateway");

    let answer = async {
        let found = orders.read_one(0).await;
        replies
            .write_batch(vec![reply_to(&found, &[(":status", "201")], b"{}")])
            .await;
        found
    };
    let headers = [TOKEN, ORIGIN, "x-user: mallory"];
    let ((status, head), found) = tokio::join!(caller.call("POST", &headers), answer);
    assert_eq!(status, 201, "{head}");
    assert_eq!(values(&head, "access-control-allow-origin"), ["https://shop.example"]);
    assert_eq!(header(&found, "x-user"), "ann", "the proxy replaces it");
    assert_eq!(found.key.as_deref(), Some(&b"ann"[..]));
    assert_eq!(found.headers.get("authorization"), None, "{found:?}");

    let (status, head) = caller
        .call("OPTIONS", &[ORIGIN, "access-control-request-method: POST"])
        .await;
    assert_eq!(status, 204, "{head}");
    assert_eq!(values(&head, "access-control-allow-origin"), ["https://shop.example"]);
    assert_eq!(
        values(&head, "access-control-allow-methods"),
        ["GET, POST, PUT, DELETE"]
    );
    assert_eq!(
        values(&head, "access-control-allow-headers"),
        ["authorization, content-type"]
    );
    let (_, head) = caller.call("OPTIONS", &["origin: https://other.example"]).await;
    assert!(values(&head, "access-control-allow-origin").is_empty(), "{head}");

    // A timeout may have been executed, so the proxy does not repeat it.
    let (status, head) = caller.call("POST", &[TOKEN]).await;
    assert_eq!(status, 504, "{head}");
    assert_eq!(orders.read_all().await.len(), 2);
    Completion::Completed
}

/// Writes the certificate and its key where the configuration expects them.
async fn certificate(directory: &Directory) -> PathBuf {
    let (certificate, key) = (directory.file("cert.pem"), directory.file("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"])
        .args(["-subj", &format!("/CN={HOST}")])
        .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(key);
    let made = within("a certificate", WAIT_LIMIT, openssl.kill_on_drop(true).output()).await;
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    certificate
}

/// Starts nginx with the file of the example, but for its addresses.
async fn start(directory: Directory, gateway: &Process) -> Nginx {
    let authorization = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let replaced = [
        ("127.0.0.1:8080", gateway.http()),
        ("127.0.0.1:9000", authorization.local_addr().unwrap()),
    ];
    tokio::spawn(authorize(authorization));
    let nginx = Nginx::start(directory, |addr| {
        let replaced = replaced.into_iter().chain([("8443", addr)]);
        replaced.fold(CONFIG.to_owned(), |config, (from, to)| {
            assert_eq!(config.matches(from).count(), 1, "{from}");
            config.replace(from, &to.to_string())
        })
    });
    nginx.await.unwrap()
}

/// The service at `/auth`: the token is of the user `ann`.
async fn authorize(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(1..) => {}
                _ => break,
            }
        }
        let status = match String::from_utf8_lossy(&head).contains(TOKEN) {
            true => "200 OK\r\nx-user: ann",
            false => "401 Unauthorized",
        };
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // An error means that nginx has closed.
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

// === impl Caller ===

impl Caller {
    /// Status and head of the response.
    async fn call(&self, method: &str, headers: &[&str]) -> (u16, String) {
        let port = self.proxy.port();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--request", method])
            .args(["--resolve", &format!("{HOST}:{port}:{}", self.proxy.ip())])
            .arg("--cacert")
            .arg(&self.certificate);
        if method == "POST" {
            curl.args(["--data", "{}"]);
        }
        for header in headers {
            curl.args(["--header", header]);
        }
        curl.arg(format!("https://{HOST}:{port}/orders"));
        let ended = within("curl", WAIT_LIMIT, curl.kill_on_drop(true).output())
            .await
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let text = String::from_utf8(ended.stdout).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (status.parse().unwrap(), head.to_owned())
    }
}

/// The values of a header.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let named = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value).collect()
}

use std::{
    io::Write,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::{BufMut, BytesMut};
use clap::Parser;
use kafka_protocol::{
    messages::{
        self as kp, ApiKey, ApiVersionsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
        SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse,
    },
    protocol::{Encodable, StrBytes, buf::ByteBufMut},
};
use shared::{config::KafkaSettings, error_chain::ErrorChain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::*;
use crate::scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker, versions};

const LIMIT: Duration = Duration::from_millis(300);

/// A bound for a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

fn client() -> Client {
    Client {
        id: "worker".into(),
        security: Security::default(),
    }
}

/// The security of these settings.
fn security(arguments: &[&str]) -> Security {
    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        kafka: KafkaSettings,
    }
    let settings = Settings::parse_from([&["test"], arguments].concat());
    Security::new(&settings.kafka).unwrap()
}

fn metadata() -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(Vec::new()))
}

fn text(error: &Error) -> String {
    ErrorChain(error).to_string()
}

async fn open(broker: &str) -> Result<Connection, Error> {
    Connection::open(broker, &client(), TEST_TIMEOUT).await
}

/// A broker that answers metadata, until `reaction` has another answer to a call.
async fn broker(reaction: impl Fn(&ReceivedRequest) -> Option<Reaction> + Send + 'static) -> ScriptedBroker {
    ScriptedBroker::new(move |request, _| {
        reaction(request).unwrap_or_else(|| match request.key {
            ApiKey::ApiVersions => request.answer(&versions(&[
                ApiKey::Metadata,
                ApiKey::Produce,
                ApiKey::SaslHandshake,
                ApiKey::SaslAuthenticate,
            ])),
            ApiKey::Metadata => request.answer(&MetadataResponse::default().with_controller_id(7.into())),
            ApiKey::SaslHandshake => request.answer(&SaslHandshakeResponse::default()),
            ApiKey::SaslAuthenticate => request.answer(&SaslAuthenticateResponse::default()),
            _ => Reaction::Silence,
        })
    })
    .await
}

/// A port where every connection gets these bytes, and then what `then` does.
async fn port(bytes: &'static [u8], closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 64];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
            if !closes {
                open.push(stream);
            }
        }
    });
    address
}

#[tokio::test]
async fn call_returns_the_response() {
    let broker = broker(|_| None).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    for _ in 0..3 {
        let response = connection.call(TEST_TIMEOUT, metadata()).await.unwrap();
        assert_eq!(response.controller_id.0, 7);
    }
    assert!(connection.is_usable());
    assert!(
        broker
            .requests(ApiKey::Metadata)
            .iter()
            .all(|request| request.connection == 0)
    );
}

#[tokio::test]
async fn ports_of_another_kind_are_named() {
    for (bytes, closes, expected) in [
        (
            &b""[..],
            true,
            "closed the connection at the first answer (ApiVersions): is this a TLS or SASL listener? set KAFKA_SECURITY_PROTOCOL",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x46",
            false,
            "answers in TLS (ApiVersions): set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            false,
            "answers in HTTP (ApiVersions): check the port in KAFKA_BROKERS",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            false,
            "announces an answer of 1397966893 bytes",
        ),
    ] {
        let address = port(bytes, closes).await;
        let error = open(&address).await.unwrap_err();
        assert!(
            text(&error).contains(&format!("{address} {expected}")),
            "{}",
            text(&error)
        );
        assert!(!error.is_timeout());
    }
}

#[tokio::test]
async fn ports_without_tls_are_named() {
    let client = Client {
        security: security(&["--kafka-security-protocol", "SSL"]),
        ..client()
    };
    for (bytes, closes, expected) in [
        (
            &b""[..],
            true,
            "is this a plaintext listener? check KAFKA_SECURITY_PROTOCOL",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            false,
            "what answers does not speak TLS: check the port in KAFKA_BROKERS, and KAFKA_SECURITY_PROTOCOL",
        ),
    ] {
        let address = port(bytes, closes).await;
        let error = Connection::open(&address, &client, TEST_TIMEOUT).await.unwrap_err();
        let line = text(&error);
        assert!(line.starts_with(&format!("TLS with {address} failed")), "{line}");
        assert!(line.ends_with(expected), "{line}");
    }
}

#[tokio::test]
async fn reset_at_the_first_answer_is_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        // What was received is not read, so the kernel resets the connection.
    });
    let line = text(&open(&address).await.unwrap_err());
    assert!(
        line.contains("closed the connection at the first answer (ApiVersions): is this a TLS or SASL listener?"),
        "{line}"
    );
    peer.await.unwrap();
}

#[tokio::test]
async fn silent_port_times_out() {
    let address = port(b"", false).await;
    let error = Connection::open(&address, &client(), LIMIT).await.unwrap_err();
    assert!(error.is_timeout());
    assert!(
        text(&error).contains(&format!("{address} did not answer within 300ms")),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn closed_port_and_unknown_host_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = open(&address).await.unwrap_err();
    assert!(
        text(&error).contains("cannot be reached") && text(&error).contains("refused"),
        "{}",
        text(&error)
    );
    let error = open("no-such-host.invalid:9092").await.unwrap_err();
    assert!(
        text(&error).starts_with("no-such-host.invalid:9092 cannot be reached"),
        "{}",
        text(&error)
    );
    assert!(error.is_before_request());
}

#[tokio::test]
async fn ipv6_literals_are_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        // The machine has no IPv6.
        return;
    };
    let port = listener.local_addr().unwrap().port();
    for address in [format!("[::1]:{port}"), format!("::1:{port}")] {
        let accepting = async { drop(listener.accept().await.unwrap()) };
        let (opened, ()) = tokio::join!(open(&address), accepting);
        let error = text(&opened.unwrap_err());
        assert!(error.contains("closed the connection"), "{error}");
    }
}

#[tokio::test]
async fn timed_out_call_makes_the_connection_unusable() {
    let broker = broker(|request| (request.key == ApiKey::Metadata).then_some(Reaction::Silence)).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection.call(LIMIT, metadata()).await.unwrap_err();
    assert!(error.is_timeout() && !error.is_before_request(), "{error:?}");
    assert!(!connection.is_usable());
    let error = connection.call(LIMIT, metadata()).await.unwrap_err();
    assert!(error.is_before_request(), "{error:?}");
    assert_eq!(broker.requests(ApiKey::Metadata).len(), 1);
}

#[tokio::test]
async fn dropped_call_makes_the_connection_unusable() {
    let broker = broker(|request| (request.key == ApiKey::Metadata).then_some(Reaction::Silence)).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let call = connection.call(TEST_TIMEOUT, metadata());
    assert!(timeout(LIMIT, call).await.is_err());
    assert!(!connection.is_usable());
}

#[tokio::test]
async fn connection_closed_by_the_broker_is_known_before_the_next_call() {
    let is_closing = Arc::new(AtomicBool::new(false));
    let broker = broker({
        let is_closing = Arc::clone(&is_closing);
        move |_| is_closing.load(Ordering::Relaxed).then_some(Reaction::Close)
    })
    .await;
    let mut first = open(&broker.addr()).await.unwrap();
    is_closing.store(true, Ordering::Relaxed);
    let error = first.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    assert!(text(&error).contains("closed the connection"), "{}", text(&error));
    assert!(!error.is_before_request(), "the broker may have executed it");

    is_closing.store(false, Ordering::Relaxed);
    let mut second = open(&broker.addr()).await.unwrap();
    second.call(TEST_TIMEOUT, metadata()).await.unwrap();
    drop(broker);
    let closed = async {
        while second.is_usable() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(TEST_TIMEOUT, closed).await.unwrap();
    let error = second.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    assert!(error.is_before_request(), "{error:?}");
}

/// Answers the versions, and then reads nothing; gives how many bytes come once the client is gone.
async fn reads_nothing(mut stream: TcpStream, is_gone: tokio::sync::oneshot::Receiver<()>) -> usize {
    let length = stream.read_i32().await.unwrap();
    let mut request = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut request).await.unwrap();
    let mut response = BytesMut::new();
    // The correlation id, as it came.
    response.put_slice(&request[4..8]);
    let versions: ApiVersionsResponse = versions(&[ApiKey::Produce]);
    versions.encode(&mut response, 3).unwrap();
    stream.write_i32(i32::try_from(response.len()).unwrap()).await.unwrap();
    stream.write_all(&response).await.unwrap();
    is_gone.await.unwrap();
    let mut rest = Vec::new();
    // An error is as good as the end.
    let _ = stream.read_to_end(&mut rest).await;
    rest.len()
}

#[tokio::test]
async fn write_does_not_outlive_its_connection() {
    const BYTES: usize = 32 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let peer = tokio::spawn(async move { reads_nothing(listener.accept().await.unwrap().0, is_gone).await });
    let mut connection = open(&address).await.unwrap();
    let partition = kp::produce_request::PartitionProduceData::default().with_records(Some(vec![0; BYTES].into()));
    let topic = kp::produce_request::TopicProduceData::default().with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_topic_data(vec![topic]);
    assert!(connection.call(LIMIT, request).await.unwrap_err().is_timeout());
    drop(connection);
    gone.send(()).unwrap();
    // The messenger goes on with the write in a task of its own; on a socket that is shut down it fails.
    let received = timeout(TEST_TIMEOUT, peer).await.unwrap().unwrap();
    assert!(received < BYTES, "{received}");
}

/// A request whose encoding panics, as a fault in the client would.
#[derive(Debug)]
struct Panicking;

impl Encodable for Panicking {
    fn encode<B: ByteBufMut>(&self, _: &mut B, _: i16) -> anyhow::Result<()> {
        panic!("on purpose")
    }

    fn compute_size(&self, _: i16) -> anyhow::Result<usize> {
        Ok(0)
    }
}

impl Request for Panicking {
    const NAME: &'static str = "Metadata";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (12, 12);
    const FIRST_FLEXIBLE_VERSION: i16 = 9;
    const NEEDS: &'static str = "";
    type Response = MetadataResponse;
}

#[tokio::test]
async fn panic_in_the_client_is_an_error_of_the_call() {
    let broker = broker(|_| None).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection.call(TEST_TIMEOUT, Panicking).await.unwrap_err();
    assert!(text(&error).contains("panicked"), "{}", text(&error));
    assert!(!connection.is_usable());
}

/// A request whose response cannot be decoded without a panic.
#[derive(Debug)]
struct PanicsInResponse;

#[derive(Debug)]
struct PanickingResponse;

impl Encodable for PanicsInResponse {
    fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {
        metadata().encode(buf, version)
    }

    fn compute_size(&self, version: i16) -> anyhow::Result<usize> {
        metadata().compute_size(version)
    }
}

impl kafka_protocol::protocol::Decodable for PanickingResponse {
    fn decode<B: kafka_protocol::protocol::buf::ByteBuf>(_: &mut B, _: i16) -> anyhow::Result<Self> {
        panic!("on purpose")
    }
}

impl Request for PanicsInResponse {
    const NAME: &'static str = "Metadata";
    const KEY: i16 = 3;
    const VERSIONS: (i16, i16) = (12, 12);
    const FIRST_FLEXIBLE_VERSION: i16 = 9;
    const NEEDS: &'static str = "";
    type Response = PanickingResponse;
}

#[tokio::test]
async fn panic_in_a_response_is_an_error_of_the_call() {
    let broker = broker(|_| None).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection.call(TEST_TIMEOUT, PanicsInResponse).await.unwrap_err();
    assert!(text(&error).contains("panicked"), "{}", text(&error));
    assert!(!connection.is_usable());
    let error = connection.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    assert!(error.is_before_request(), "{error:?}");
}

#[tokio::test]
async fn panic_in_the_transport_is_an_error_of_the_calls() {
    let broker = broker(|_| None).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    connection.transport.make_reads_panic();
    let error = connection.call(LIMIT, metadata()).await.unwrap_err();
    assert!(error.is_timeout(), "its response is never read: {error:?}");
    assert!(!connection.is_usable());
    // The lock between the halves of the transport is poisoned, and panics in whatever writes next.
    connection.is_usable = true;
    let error = connection.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    assert!(text(&error).contains("panicked"), "{}", text(&error));
    assert!(!connection.is_usable());
}

#[tokio::test]
async fn response_beyond_the_bound_ends_the_connection() {
    let broker = broker(|request| {
        let length = i32::try_from(MAX_RESPONSE_BYTES + 1).unwrap().to_be_bytes();
        (request.key == ApiKey::Metadata).then(|| Reaction::Bytes(Bytes::copy_from_slice(&length)))
    })
    .await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    let line = text(&error);
    assert!(
        line.contains("announces an answer of 8388609 bytes (Metadata)"),
        "{line}"
    );
    assert!(!error.is_timeout() && !connection.is_usable(), "{line}");
}

#[tokio::test]
async fn response_without_a_header_times_out() {
    let broker = broker(|request| (request.key == ApiKey::Metadata).then(|| Reaction::framed(b"ab"))).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    // The messenger ignores it.
    let error = connection.call(LIMIT, metadata()).await.unwrap_err();
    assert!(error.is_timeout() && !connection.is_usable(), "{error:?}");
}

#[tokio::test]
async fn response_to_another_request_is_not_taken() {
    let broker = broker(|request| {
        let response = MetadataResponse::default().with_controller_id(9.into());
        (request.key == ApiKey::Metadata).then(|| request.answer_as(77, &response))
    })
    .await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection.call(LIMIT, metadata()).await.unwrap_err();
    assert!(error.is_timeout() && !connection.is_usable(), "{error:?}");
}

#[tokio::test]
async fn dropped_connection_closes_its_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (gone, is_gone) = tokio::sync::oneshot::channel();
    let peer = tokio::spawn(async move { reads_nothing(listener.accept().await.unwrap().0, is_gone).await });
    drop(open(&address).await.unwrap());
    gone.send(()).unwrap();
    assert_eq!(timeout(TEST_TIMEOUT, peer).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn call_that_the_broker_does_not_have_names_the_release() {
    let broker = broker(|_| None).await;
    let mut connection = open(&broker.addr()).await.unwrap();
    let error = connection
        .call(TEST_TIMEOUT, kp::OffsetFetchRequest::default())
        .await
        .unwrap_err();
    assert!(text(&error).contains("OffsetFetch needs Kafka 3.0"), "{}", text(&error));
    assert!(error.is_too_old() && connection.is_usable());
}

/// A file with a password.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn new(password: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kafka-password-{}", fastrand::u64(..)));
        let file = Self(path);
        file.write(password);
        file
    }

    fn write(&self, password: &str) {
        let mut file = std::fs::File::create(&self.0).unwrap();
        writeln!(file, "{password}").unwrap();
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn sasl_client(arguments: &[&str]) -> Client {
    Client {
        security: security(&[&["--kafka-security-protocol", "SASL_PLAINTEXT"], arguments].concat()),
        ..client()
    }
}

/// What PLAIN has sent, each time.
fn sent_logins(broker: &ScriptedBroker) -> Vec<String> {
    let requests = broker.requests(ApiKey::SaslAuthenticate);
    let sent = requests
        .iter()
        .map(|request| request.decode::<SaslAuthenticateRequest>().auth_bytes);
    sent.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn password_file_is_read_again_for_each_connection() {
    let file = PasswordFile::new("one");
    let path = file.0.to_str().unwrap();
    let client = sasl_client(&[
        "--kafka-sasl-mechanism=PLAIN",
        "--kafka-sasl-username=alice",
        "--kafka-sasl-password-file",
        path,
    ]);
    let broker = broker(|_| None).await;
    Connection::open(&broker.addr(), &client, TEST_TIMEOUT).await.unwrap();
    file.write("two");
    Connection::open(&broker.addr(), &client, TEST_TIMEOUT).await.unwrap();
    assert_eq!(sent_logins(&broker), ["\0alice\0one", "\0alice\0two"]);
    assert!(!format!("{client:?}").contains("two"), "{client:?}");
}

#[tokio::test]
async fn login_is_renewed_before_its_session_ends() {
    let client = sasl_client(&[
        "--kafka-sasl-mechanism=PLAIN",
        "--kafka-sasl-username=alice",
        "--kafka-sasl-password=secret",
    ]);
    let broker = broker(|request| {
        (request.key == ApiKey::SaslAuthenticate)
            .then(|| request.answer(&SaslAuthenticateResponse::default().with_session_lifetime_ms(1_000)))
    })
    .await;
    let mut connection = Connection::open(&broker.addr(), &client, TEST_TIMEOUT).await.unwrap();
    connection.call(TEST_TIMEOUT, metadata()).await.unwrap();
    assert_eq!(sent_logins(&broker).len(), 1);
    sleep(Duration::from_millis(850)).await;
    connection.call(TEST_TIMEOUT, metadata()).await.unwrap();
    assert_eq!(sent_logins(&broker).len(), 2, "after 80 % of the lifetime");
    assert!(
        broker
            .requests(ApiKey::SaslAuthenticate)
            .iter()
            .all(|request| request.connection == 0)
    );
}

#[tokio::test]
async fn refused_renewal_of_a_login_leaves_the_call_unwritten() {
    let client = sasl_client(&[
        "--kafka-sasl-mechanism=PLAIN",
        "--kafka-sasl-username=alice",
        "--kafka-sasl-password=secret",
    ]);
    let is_first = AtomicBool::new(true);
    let broker = broker(move |request| {
        (request.key == ApiKey::SaslAuthenticate).then(|| {
            let response = SaslAuthenticateResponse::default();
            request.answer(&if is_first.swap(false, Ordering::Relaxed) {
                response.with_session_lifetime_ms(1)
            } else {
                response.with_error_code(58)
            })
        })
    })
    .await;
    let mut connection = Connection::open(&broker.addr(), &client, TEST_TIMEOUT).await.unwrap();
    sleep(Duration::from_millis(2)).await;
    let error = connection.call(TEST_TIMEOUT, metadata()).await.unwrap_err();
    assert!(error.is_login() && error.is_before_request(), "{error:?}");
    assert_eq!(broker.requests(ApiKey::Metadata).len(), 0);
}

#[tokio::test]
async fn refused_login_says_user_broker_and_reason() {
    let client = sasl_client(&[
        "--kafka-sasl-mechanism=PLAIN",
        "--kafka-sasl-username=alice",
        "--kafka-sasl-password=secret",
    ]);
    let broker = broker(|request| {
        (request.key == ApiKey::SaslAuthenticate).then(|| {
            let reason = StrBytes::from_static_str("invalid credentials");
            request.answer(
                &SaslAuthenticateResponse::default()
                    .with_error_code(58)
                    .with_error_message(Some(reason)),
            )
        })
    })
    .await;
    let error = Connection::open(&broker.addr(), &client, TEST_TIMEOUT)
        .await
        .unwrap_err();
    let line = text(&error);
    for word in [
        "user alice",
        &broker.addr(),
        "invalid credentials",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
    ] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!line.contains("secret") && error.is_login(), "{line}");
}

#[tokio::test]
async fn unknown_mechanism_lists_those_of_the_broker() {
    let client = sasl_client(&[
        "--kafka-sasl-mechanism=SCRAM-SHA-256",
        "--kafka-sasl-username=alice",
        "--kafka-sasl-password=secret",
    ]);
    let broker = broker(|request| {
        (request.key == ApiKey::SaslHandshake).then(|| {
            let offered = ["PLAIN", "OAUTHBEARER"].map(StrBytes::from_static_str).to_vec();
            request.answer(
                &SaslHandshakeResponse::default()
                    .with_error_code(33)
                    .with_mechanisms(offered),
            )
        })
    })
    .await;
    let line = text(
        &Connection::open(&broker.addr(), &client, TEST_TIMEOUT)
            .await
            .unwrap_err(),
    );
    assert!(
        line.contains("KAFKA_SASL_MECHANISM") && line.contains("PLAIN, OAUTHBEARER"),
        "{line}"
    );
}

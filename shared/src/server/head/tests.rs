use hyper::Request;

use super::*;

fn head(method: &str, target: &str, version: Version, headers: &[(&str, &str)]) -> Result<(), RequestError> {
    let mut request = Request::builder().method(method).uri(target).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    check(&request.body(()).unwrap().into_parts().0)
}

fn with_host(host: &str) -> Result<(), RequestError> {
    head("GET", "/ping", Version::HTTP_11, &[("host", host)])
}

#[test]
fn host_is_required_once_in_http_1_1() {
    let hosts = [("host", "a"), ("host", "a")];
    for (version, none) in [
        (Version::HTTP_11, Err(RequestError::InvalidHost)),
        (Version::HTTP_10, Ok(())),
    ] {
        assert_eq!(head("GET", "/ping", version, &[]), none);
        assert_eq!(head("GET", "http://any/ping", version, &[]), none);
        assert_eq!(head("GET", "/ping", version, &hosts[..1]), Ok(()));
        assert_eq!(head("GET", "/ping", version, &hosts), Err(RequestError::InvalidHost));
    }
}

#[test]
fn host_is_a_name_or_an_address_with_an_optional_port() {
    for valid in [
        "",
        "a",
        "a:",
        "a:80",
        "a.b-c_d~",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "%41:1",
        "xn--bcher-kva.example",
    ] {
        assert_eq!(with_host(valid), Ok(()), "{valid:?}");
    }
    for invalid in [
        "a b", "a, b", "a/b", "u@a", "a:b", "a:80:80", "[::1", "[::1]80", "::1", "[a]", "a?", "a#", "%4", "%zz",
        "http://a", "a\\b", "\"a\"", "bücher",
    ] {
        assert_eq!(with_host(invalid), Err(RequestError::InvalidHost), "{invalid:?}");
    }
}

#[test]
fn target_is_a_path_or_a_url_of_http() {
    let target = |method: &str, target: &str| head(method, target, Version::HTTP_11, &[("host", "a")]);
    for (method, valid) in [
        ("GET", "/"),
        ("GET", "//ping"),
        ("GET", "/ping?a=b"),
        ("GET", "http://other/ping"),
        ("GET", "HTTPS://other:1/ping"),
        ("GET", "http://other"),
        ("OPTIONS", "*"),
    ] {
        assert_eq!(target(method, valid), Ok(()), "{method} {valid}");
    }
    for (method, invalid) in [
        ("GET", "*"),
        ("GET", "a"),
        ("GET", "a:80"),
        ("CONNECT", "a:80"),
        ("CONNECT", "*"),
        ("GET", "ftp://a/ping"),
        ("GET", "http://user@a/ping"),
    ] {
        assert_eq!(
            target(method, invalid),
            Err(RequestError::InvalidTarget),
            "{method} {invalid}"
        );
    }
}

#[test]
fn transfer_coding_is_chunked_once() {
    let codings = |values: &[&'static str]| {
        let mut headers = vec![("host", "a")];
        headers.extend(values.iter().map(|value| ("transfer-encoding", *value)));
        head("POST", "/ping", Version::HTTP_11, &headers)
    };
    for valid in [&[][..], &["chunked"], &["Chunked"]] {
        assert_eq!(codings(valid), Ok(()), "{valid:?}");
    }
    for invalid in [
        &["gzip, chunked"][..],
        &["chunked, chunked"],
        &["gzip", "chunked"],
        &["chunked", "chunked"],
    ] {
        assert_eq!(
            codings(invalid),
            Err(RequestError::UnsupportedTransferCoding),
            "{invalid:?}"
        );
    }
}

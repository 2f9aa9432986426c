//! The routes: which requests the gateway answers. `/ping` is the one route.

use hyper::{HeaderMap, Method, header::CONTENT_TYPE, http::request::Parts};

use crate::response::GatewayError;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /ping`: the record has the default name and value; a body is ignored.
    GetPing,
    /// `POST /ping`: the body is a [`PingBody`](crate::ping_body::PingBody).
    PostPing,
}

// === impl Route ===

impl Route {
    /// The route of a request's head.
    pub(crate) fn from_head(head: &Parts) -> Result<Self, GatewayError> {
        match head.method {
            _ if head.uri.path() != "/ping" => Err(GatewayError::NotFound),
            Method::GET => Ok(Self::GetPing),
            Method::POST if is_json(&head.headers) => Ok(Self::PostPing),
            Method::POST => Err(GatewayError::UnsupportedMediaType),
            _ => Err(GatewayError::MethodNotAllowed),
        }
    }
}

/// Whether the content type is JSON. A request without one is taken for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|value| {
        let media_type = value.as_bytes().split(|&byte| byte == b';').next();
        media_type.is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn route(method: &str, uri: &str) -> Result<Route, GatewayError> {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        Route::from_head(&request.into_parts().0)
    }

    #[test]
    fn routes_by_path_and_method() {
        assert_eq!(route("GET", "/ping"), Ok(Route::GetPing));
        assert_eq!(route("GET", "/ping?query"), Ok(Route::GetPing));
        assert_eq!(route("POST", "/ping"), Ok(Route::PostPing));
        assert_eq!(route("PUT", "/ping"), Err(GatewayError::MethodNotAllowed));
        assert_eq!(route("HEAD", "/ping"), Err(GatewayError::MethodNotAllowed));
        assert_eq!(route("GET", "/ping/"), Err(GatewayError::NotFound));
        assert_eq!(route("PUT", "/"), Err(GatewayError::NotFound));
    }

    #[test]
    fn content_type_must_be_json_or_absent() {
        let json = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, value.parse().unwrap());
            }
            is_json(&headers)
        };
        assert!(json(None));
        assert!(json(Some("application/json")));
        assert!(json(Some("Application/JSON ; charset=utf-8")));
        assert!(!json(Some("text/plain")));
        assert!(!json(Some("application/jsonp")));
        assert!(!json(Some("")));
    }
}

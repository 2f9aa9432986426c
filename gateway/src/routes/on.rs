//! The key `on` of a route: methods and a path, such as `GET, POST /orders/{id}`.

use hyper::Method;

use super::file::similar;

/// The longest path.
pub(crate) const MAX_PATH_BYTES: usize = 1024;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

/// Methods, path, and the names of its parameters.
pub(super) fn parse_on(text: &str) -> Result<(Vec<Method>, String, Vec<String>), String> {
    const ALLOWED: &str = "it must be methods and a path, such as GET, POST /orders/{id}";
    let slash = text.find('/').ok_or(ALLOWED)?;
    let (names, path) = text.split_at(slash);
    let path = path.trim_end();
    let mut methods = Vec::new();
    for name in names.split(',').map(str::trim) {
        if name.is_empty() {
            return Err(ALLOWED.to_owned());
        }
        if !METHODS.contains(&name) {
            let hint = similar(name, &METHODS).map_or_else(
                || format!("the methods are {}", METHODS.join(", ")),
                |similar| format!("did you mean {similar}?"),
            );
            return Err(format!("unknown method {name:?}; {hint}"));
        }
        let method: Method = name.parse().map_err(|_| ALLOWED)?;
        if methods.contains(&method) {
            return Err(format!("{name} occurs twice"));
        }
        methods.push(method);
    }
    let params = parse_path(path)?;
    Ok((methods, path.to_owned(), params))
}

fn parse_path(path: &str) -> Result<Vec<String>, String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("the path must not be longer than {MAX_PATH_BYTES} bytes"));
    }
    if path.contains(['?', '#']) {
        return Err("the path is matched without the query: it must not have ? or #".to_owned());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path must be visible ASCII: percent-encode anything else".to_owned());
    }
    let mut params: Vec<String> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !segment.contains(['{', '}']) {
            continue;
        }
        let inner = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
        let name = inner.map(|inner| inner.strip_prefix('*').unwrap_or(inner));
        let is_name = |name: &str| {
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            !name.is_empty() && name.bytes().all(is_legal)
        };
        let Some(name) = name.filter(|name| is_name(name)) else {
            return Err(format!(
                "{segment:?}: a parameter is a whole segment, {{name}} of a-z A-Z 0-9 _ -"
            ));
        };
        if inner.is_some_and(|inner| inner.starts_with('*')) && segments.peek().is_some() {
            return Err(format!("{segment} must be the end of the path"));
        }
        if params.iter().any(|param| param == name) {
            return Err(format!("{{{name}}} occurs twice"));
        }
        params.push(name.to_owned());
    }
    Ok(params)
}

//! The key of a record, made of text, path parameters and HTTP headers: `{id}`, `{header:x-customer}`.

use std::{borrow::Cow, fmt};

use hyper::{HeaderMap, header::HeaderName};

/// The path parameters of a request: names and percent-decoded values.
pub(crate) type Params<'a> = [(&'a str, Cow<'a, str>)];

/// The template of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyTemplate {
    parts: Vec<Part>,
    /// The headers that it names.
    headers: Vec<HeaderName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Param(String),
    /// The index in [`KeyTemplate::headers`].
    Header(u8),
}

/// A request lacks a header that its key needs: the index of the header in the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyError(pub(crate) u8);

// === impl KeyTemplate ===

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Param(name) => write!(f, "{{{name}}}")?,
                Part::Header(index) => write!(f, "{{header:{}}}", self.header(*index).unwrap_or_default())?,
            }
        }
        Ok(())
    }
}

impl KeyTemplate {
    /// Parses a template for a path with these parameters.
    ///
    /// # Errors
    /// What is allowed.
    pub(super) fn parse(text: &str, path: &str, params: &[String]) -> Result<Self, String> {
        const ALLOWED: &str = "it must be text with {parameter} and {header:name}";
        let mut template = Self {
            parts: Vec::new(),
            headers: Vec::new(),
        };
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from_open) = rest.split_at(open);
            let inner = from_open.strip_prefix('{').ok_or(ALLOWED)?;
            let (name, after) = inner.split_once('}').ok_or(ALLOWED)?;
            if !before.is_empty() {
                template.parts.push(Part::Text(before.to_owned()));
            }
            let part = template.part(name, path, params)?;
            template.parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            template.parts.push(Part::Text(rest.to_owned()));
        }
        if template.parts.is_empty() {
            return Err(ALLOWED.to_owned());
        }
        Ok(template)
    }

    fn part(&mut self, name: &str, path: &str, params: &[String]) -> Result<Part, String> {
        if let Some(header) = name.strip_prefix("header:") {
            let name = HeaderName::from_bytes(header.trim().to_ascii_lowercase().as_bytes())
                .map_err(|_| format!("{header:?} is not the name of a header"))?;
            let index = u8::try_from(self.headers.len()).map_err(|_| "it names too many headers")?;
            self.headers.push(name);
            return Ok(Part::Header(index));
        }
        if params.iter().any(|param| param == name) {
            return Ok(Part::Param(name.to_owned()));
        }
        let known: Vec<_> = params.iter().map(|param| format!("{{{param}}}")).collect();
        let known = if known.is_empty() {
            "no parameters".to_owned()
        } else {
            known.join(", ")
        };
        Err(format!("{path} has no {{{name}}}; it has {known}"))
    }

    /// The key of a request.
    ///
    /// # Errors
    /// The first header that is missing or empty.
    pub(crate) fn key(&self, params: &Params<'_>, headers: &HeaderMap) -> Result<Vec<u8>, KeyError> {
        let mut key = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.extend_from_slice(text.as_bytes()),
                Part::Param(name) => {
                    let value = params
                        .iter()
                        .find_map(|(param, value)| (param == name).then_some(value));
                    key.extend_from_slice(value.map_or(&[], |value| value.as_bytes()));
                }
                Part::Header(index) => {
                    let name = self.headers.get(usize::from(*index));
                    let value = name.and_then(|name| headers.get(name));
                    let value = value.filter(|value| !value.as_bytes().trim_ascii().is_empty());
                    key.extend_from_slice(value.ok_or(KeyError(*index))?.as_bytes());
                }
            }
        }
        Ok(key)
    }

    /// The name of a header that it needs.
    pub(crate) fn header(&self, index: u8) -> Option<&str> {
        self.headers.get(usize::from(index)).map(HeaderName::as_str)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn parse(text: &str) -> Result<KeyTemplate, String> {
        KeyTemplate::parse(text, "/a/{id}/{part}", &["id".to_owned(), "part".to_owned()])
    }

    #[test]
    fn key_is_made_of_text_parameters_and_headers() {
        let template = parse("c-{header:X-Customer}/{part}{id}").unwrap();
        let params = [("id", Cow::Borrowed("7")), ("part", Cow::Borrowed("ä"))];
        let mut headers = HeaderMap::new();
        headers.insert("x-customer", HeaderValue::from_static("ann"));
        assert_eq!(template.key(&params, &headers).unwrap(), "c-ann/ä7".as_bytes());
        assert_eq!(template.to_string(), "c-{header:x-customer}/{part}{id}");
    }

    #[test]
    fn missing_or_empty_header_is_named() {
        let template = parse("{header:a}{header:b}").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_static("1"));
        assert_eq!(template.key(&[], &headers), Err(KeyError(1)));
        assert_eq!(template.header(1), Some("b"));
        headers.insert("b", HeaderValue::from_static(" "));
        assert_eq!(template.key(&[], &headers), Err(KeyError(1)));
    }

    #[test]
    fn malformed_template_says_what_is_allowed() {
        assert_eq!(
            parse("{ident}").unwrap_err(),
            "/a/{id}/{part} has no {ident}; it has {id}, {part}"
        );
        for text in ["", "{id", "id}", "{{id}}"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("{header:a b}").unwrap_err().contains("\"a b\""));
    }
}

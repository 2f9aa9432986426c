//! Finds the route of a request: by its path, then by its method.
//!
//! - The path is matched as it was sent, without the query. Literal segments win over parameters.
//! - A path without the method is 405 with `Allow`. Unless a route says otherwise, `OPTIONS` is answered with `Allow`, and
//!   `HEAD` is a `GET` whose response has no body. The contract of `/ping` has neither.

use hyper::{Method, header::HeaderValue};

use super::Contract;

/// The routes by path and method.
#[derive(Debug, Default)]
pub(crate) struct Router {
    /// Index in `paths`.
    index: matchit::Router<usize>,
    paths: Vec<PathRoutes>,
}

/// The routes of one path.
#[derive(Debug)]
struct PathRoutes {
    /// With names of parameters that are the same for all routes.
    pattern: String,
    methods: Vec<(Method, usize)>,
    allow: HeaderValue,
    has_options: bool,
}

/// What was found for a request.
#[derive(Debug)]
pub(crate) enum Match<'r, 'p> {
    /// A route, the raw values of its parameters, and the method that its record has.
    Route {
        index: usize,
        method: &'r Method,
        params: matchit::Params<'r, 'p>,
    },
    /// The value of `Allow`.
    Options(&'r HeaderValue),
    /// The value of `Allow`.
    MethodNotAllowed(&'r HeaderValue),
    NotFound,
}

/// Another route has the same requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Its index.
    pub(super) with: usize,
}

// === impl Router ===

impl Router {
    /// Adds a route. `path` is valid for matchit.
    ///
    /// # Errors
    /// When another route has the same requests.
    pub(super) fn insert(
        &mut self,
        path: &str,
        methods: &[Method],
        contract: Contract,
        route: usize,
    ) -> Result<(), Conflict> {
        let pattern = with_numbered_params(path);
        let position = match self.paths.iter().position(|path| path.pattern == pattern) {
            Some(position) => position,
            None => {
                if let Err(error) = self.index.insert(pattern.as_str(), self.paths.len()) {
                    return Err(self.conflict(&error));
                }
                self.paths.push(PathRoutes {
                    pattern,
                    methods: Vec::new(),
                    allow: HeaderValue::from_static(""),
                    has_options: false,
                });
                self.paths.len() - 1
            }
        };
        let Some(path) = self.paths.get_mut(position) else {
            return Ok(());
        };
        for method in methods {
            if let Some((_, with)) = path.methods.iter().find(|(other, _)| other == method) {
                return Err(Conflict { with: *with });
            }
        }
        path.methods
            .extend(methods.iter().map(|method| (method.clone(), route)));
        path.has_options |= contract == Contract::Http;
        path.allow = path.allow();
        Ok(())
    }

    fn conflict(&self, error: &matchit::InsertError) -> Conflict {
        let with = match error {
            matchit::InsertError::Conflict { with } => self.paths.iter().find(|path| path.pattern == *with),
            _ => None,
        };
        let with = with.and_then(|path| path.methods.first());
        Conflict {
            with: with.map_or(0, |(_, route)| *route),
        }
    }

    /// Finds the route of a request.
    pub(crate) fn find<'r, 'p>(&'r self, method: &Method, path: &'p str) -> Match<'r, 'p> {
        let Ok(found) = self.index.at(path) else {
            return Match::NotFound;
        };
        let Some(path) = self.paths.get(*found.value) else {
            return Match::NotFound;
        };
        match path.route(method) {
            Some((method, index)) => Match::Route {
                index: *index,
                method,
                params: found.params,
            },
            None if *method == Method::OPTIONS && path.has_options => Match::Options(&path.allow),
            None => Match::MethodNotAllowed(&path.allow),
        }
    }
}

// === impl PathRoutes ===

impl PathRoutes {
    fn route(&self, method: &Method) -> Option<&(Method, usize)> {
        let of = |method: &Method| self.methods.iter().find(|(other, _)| other == method);
        of(method).or_else(|| of(&Method::GET).filter(|_| *method == Method::HEAD && self.has_options))
    }

    fn allow(&self) -> HeaderValue {
        let mut names: Vec<_> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        if self.has_options {
            for implied in [Method::HEAD, Method::OPTIONS] {
                let is_answered = implied == Method::OPTIONS || self.route(&implied).is_some();
                if is_answered && !self.methods.iter().any(|(method, _)| *method == implied) {
                    names.push(if implied == Method::HEAD { "HEAD" } else { "OPTIONS" });
                }
            }
        }
        // Methods are visible ASCII.
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The path with `{0}`, `{1}`: routes of one path may name its parameters differently.
fn with_numbered_params(path: &str) -> String {
    let mut count = 0;
    let segments = path.split('/').map(|segment| {
        let prefix = match segment.as_bytes() {
            [b'{', b'*', ..] => "{*",
            [b'{', ..] => "{",
            _ => return segment.to_owned(),
        };
        count += 1;
        format!("{prefix}{}}}", count - 1)
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(&str, &str, Contract)]) -> Router {
        let mut router = Router::default();
        for (index, (methods, path, contract)) in routes.iter().enumerate() {
            let methods: Vec<Method> = methods.split(' ').map(|method| method.parse().unwrap()).collect();
            router.insert(path, &methods, *contract, index).unwrap();
        }
        router
    }

    fn found(router: &Router, method: &str, path: &str) -> String {
        match router.find(&method.parse().unwrap(), path) {
            Match::Route { index, method, params } => {
                let values: Vec<_> = params.iter().map(|(_, value)| value).collect();
                format!("{index} {method} {}", values.join(" "))
            }
            Match::Options(allow) => format!("options {}", allow.to_str().unwrap()),
            Match::MethodNotAllowed(allow) => format!("405 {}", allow.to_str().unwrap()),
            Match::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn route_is_found_by_path_and_method() {
        let router = router(&[
            ("GET POST", "/ping", Contract::Ping),
            ("GET", "/orders/{id}", Contract::Http),
            ("PUT DELETE", "/orders/{order}", Contract::Http),
            ("GET", "/orders/new", Contract::Http),
            ("GET", "/files/{*path}", Contract::Http),
            ("OPTIONS HEAD GET", "/own", Contract::Http),
        ]);
        for (method, path, expected) in [
            ("GET", "/ping", "0 GET "),
            ("HEAD", "/ping", "405 GET, POST"),
            ("OPTIONS", "/ping", "405 GET, POST"),
            ("GET", "/ping/", "404"),
            ("GET", "/orders/7", "1 GET 7"),
            ("GET", "/orders/a%2Fb", "1 GET a%2Fb"),
            ("GET", "/orders/", "404"),
            ("GET", "/orders/7/", "404"),
            ("HEAD", "/orders/7", "1 GET 7"),
            ("DELETE", "/orders/7", "2 DELETE 7"),
            ("OPTIONS", "/orders/7", "options GET, PUT, DELETE, HEAD, OPTIONS"),
            ("POST", "/orders/7", "405 GET, PUT, DELETE, HEAD, OPTIONS"),
            ("GET", "/orders/new", "3 GET "),
            ("GET", "/files/a/b", "4 GET a/b"),
            ("GET", "/files/", "404"),
            ("HEAD", "/own", "5 HEAD "),
            ("OPTIONS", "/own", "5 OPTIONS "),
            ("POST", "/own", "405 OPTIONS, HEAD, GET"),
            ("GET", "*", "404"),
            ("GET", "", "404"),
        ] {
            assert_eq!(found(&router, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn same_requests_are_a_conflict() {
        let mut router = router(&[("GET", "/a/{id}", Contract::Http), ("POST", "/a/{id}", Contract::Http)]);
        let insert =
            |router: &mut Router, method: Method, path: &str| router.insert(path, &[method], Contract::Http, 9);
        assert_eq!(
            insert(&mut router, Method::POST, "/a/{name}"),
            Err(Conflict { with: 1 })
        );
        assert_eq!(insert(&mut router, Method::PUT, "/a/{name}"), Ok(()));
        assert_eq!(insert(&mut router, Method::GET, "/a/b"), Ok(()));
    }
}

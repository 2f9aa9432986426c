//! The file as tables of keys and values, each with its line. It collects every problem instead of stopping at the first.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The most that a problem shows of a value, in characters.
const MAX_SHOWN: usize = 60;

/// How the problems begin that the parser reports.
pub(super) const NOT_TOML: &str = "not TOML";

/// The problems of a file, by line.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    source: &'a str,
    found: Vec<(usize, String)>,
}

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
}

/// A value and its place in the file.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

// === impl Problems ===

impl<'a> Problems<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            source,
            found: Vec::new(),
        }
    }

    /// Adds a problem, unless the line is not TOML: what is read of such a line is a guess.
    pub(super) fn add(&mut self, span: &Range<usize>, text: impl Into<String>) {
        let line = self.line(span);
        let is_guess = |(other, text): &(usize, String)| *other == line && text.starts_with(NOT_TOML);
        if !self.found.iter().any(is_guess) {
            self.found.push((line, text.into()));
        }
    }

    /// Adds a problem with a value: `key = value: text`.
    pub(super) fn add_value(&mut self, key: &str, span: &Range<usize>, text: &str) {
        let shown = self.shown(span);
        self.add(span, format!("{key} = {shown}: {text}"));
    }

    /// The number of the line, from 1 on.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.source.get(..span.start).unwrap_or(self.source);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    /// A value as the file has it, on one line.
    fn shown(&self, span: &Range<usize>) -> String {
        let text = self.source.get(span.clone()).unwrap_or_default();
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }

    /// All of them by line, or `None` when there are none.
    pub(super) fn into_text(mut self, name: &str) -> Option<String> {
        self.found.sort_by_key(|(line, _)| *line);
        let lines: Vec<_> = self
            .found
            .iter()
            .map(|(line, text)| format!("{name}:{line}: {text}"))
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

// === impl Table ===

impl<'a> Table<'a> {
    pub(super) fn new(entries: &'a DeTable<'a>) -> Self {
        Self { entries }
    }

    /// Reports each key that is not among `known`, with the most similar one.
    pub(super) fn check_keys(self, known: &[&str], problems: &mut Problems<'_>) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match similar(name, known) {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("the keys are {}", known.join(", ")),
            };
            problems.add(&key.span(), format!("unknown key {name:?}; {hint}"));
        }
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut entries = self.entries.iter();
        entries.find_map(|(name, value)| (name.get_ref() == key).then_some(value))
    }

    pub(super) fn string(self, key: &str, problems: &mut Problems<'_>) -> Option<Located<&'a str>> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            problems.add_value(key, &value.span(), "it must be a text in quotes");
        }
        Some(Located {
            value: text?,
            span: value.span(),
        })
    }

    pub(super) fn boolean(self, key: &str, problems: &mut Problems<'_>) -> Option<Located<bool>> {
        let value = self.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            problems.add_value(key, &value.span(), "it must be true or false");
        }
        Some(Located {
            value: boolean?,
            span: value.span(),
        })
    }

    /// A whole number from 1 to `max`.
    pub(super) fn number(self, key: &str, max: usize, problems: &mut Problems<'_>) -> Option<usize> {
        let value = self.get(key)?;
        let integer = value.get_ref().as_integer();
        let number = integer.and_then(|integer| usize::from_str_radix(integer.as_str(), integer.radix()).ok());
        let number = number.filter(|number| (1..=max).contains(number));
        if number.is_none() {
            problems.add_value(
                key,
                &value.span(),
                &format!("it must be a whole number from 1 to {max}"),
            );
        }
        number
    }

    pub(super) fn strings(self, key: &str, problems: &mut Problems<'_>) -> Option<Vec<Located<&'a str>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            problems.add_value(key, &value.span(), "it must be a list such as [\"x-customer\"]");
            return None;
        };
        let strings = array.iter().filter_map(|element| {
            let text = element.get_ref().as_str();
            if text.is_none() {
                problems.add_value(key, &element.span(), "it must be a text in quotes");
            }
            Some(Located {
                value: text?,
                span: element.span(),
            })
        });
        Some(strings.collect())
    }

    /// The tables of `[[key]]`, each with its place.
    pub(super) fn tables(self, key: &str, problems: &mut Problems<'_>) -> Vec<Located<Table<'a>>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let tables = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        };
        let tables = tables.into_iter().filter_map(|element| match element.get_ref() {
            DeValue::Table(entries) if value.get_ref().is_array() => Some(Located {
                value: Table::new(entries),
                span: element.span(),
            }),
            _ => {
                problems.add(&element.span(), format!("a route begins with the line [[{key}]]"));
                None
            }
        });
        tables.collect()
    }
}

/// The known name that is most similar to a mistyped one.
pub(super) fn similar<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity =
        |known: &str| strsim::normalized_damerau_levenshtein(&name.to_ascii_lowercase(), &known.to_ascii_lowercase());
    let rated = known.iter().map(|known| (similarity(known), *known));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(rate, _)| *rate > 0.6).map(|(_, known)| known)
}

//! Fenced blocks: ```` ```json client ```` is a frame that a client sends, ```` ```json server ```` one
//! that the server sends, ```` ```json SignUp ```` a value of that wire type.

use super::Page;

/// A fenced block whose language is JSON.
pub(crate) struct Example {
    /// File and line, for messages.
    pub(crate) at: String,
    /// What comes after `json`: `client`, `server`, or a type's name.
    pub(crate) is: String,
    pub(crate) text: String,
}

impl Example {
    /// The one key of a frame: `hello`.
    pub(crate) fn frame(&self) -> String {
        self.value()
            .as_object()
            .and_then(|frame| frame.keys().next().cloned())
            .unwrap_or_else(|| panic!("{}: not a frame", self.at))
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.at))
    }
}

/// All JSON examples of some pages, in their order. A JSON block that does not say what it is, is a fault.
pub(crate) fn examples_of(pages: &[Page]) -> Vec<Example> {
    let mut found = Vec::new();
    for page in pages {
        let mut open: Option<Example> = None;
        let mut inside_other = false;
        for (index, line) in page.text.lines().enumerate() {
            let Some(info) = line.strip_prefix("```") else {
                if let Some(example) = &mut open {
                    example.text.push_str(line);
                    example.text.push('\n');
                }
                continue;
            };
            if let Some(example) = open.take() {
                found.push(example);
            } else if inside_other {
                inside_other = false;
            } else if let Some(is) = info.strip_prefix("json") {
                let at = format!("{}:{}", page.name, index + 1);
                assert!(!is.trim().is_empty(), "{at}: says not what it is");
                open = Some(Example {
                    at,
                    is: is.trim().to_owned(),
                    text: String::new(),
                });
            } else {
                inside_other = true;
            }
        }
        assert!(
            open.is_none() && !inside_other,
            "{}: an open block",
            page.name
        );
    }
    found
}

//! What the tests of the documentation share: its files, their fenced examples and generated parts.

pub(crate) mod examples;
pub(crate) mod generated;
mod program;
mod reckoned;
pub(crate) mod types;

use std::path::{Path, PathBuf};

/// The top of the repository.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether files are to be brought up to date rather than compared: as with expect-test.
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// A Markdown file.
pub(crate) struct Page {
    /// From the top of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The pages in a folder and below it, sorted by name.
pub(crate) fn pages_under(folder: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(top().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if name.ends_with(".md") {
                pages.push(page(&name));
            }
        }
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}

/// One page.
pub(crate) fn page(name: &str) -> Page {
    let text =
        std::fs::read_to_string(top().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Page {
        name: name.to_owned(),
        text,
    }
}

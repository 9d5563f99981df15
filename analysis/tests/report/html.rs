//! Looks at pages as a browser would, strictly: every `<` begins a tag, and every tag is closed.

use std::collections::BTreeSet;

/// Elements without content.
const VOID: [&str; 4] = ["meta", "link", "wbr", "!DOCTYPE"];
/// Elements that a page may hold.
const KNOWN: [&str; 46] = [
    "html",
    "head",
    "title",
    "style",
    "body",
    "main",
    "header",
    "section",
    "h1",
    "h2",
    "h3",
    "p",
    "b",
    "i",
    "a",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
    "div",
    "span",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "strong",
    "bdi",
    "code",
    "pre",
    "details",
    "summary",
    "figure",
    "figcaption",
    "svg",
    "rect",
    "path",
    "circle",
    "text",
    "meta",
    "link",
    "wbr",
    "!DOCTYPE",
];

/// The tags of a page, in order: name and everything in it.
pub fn tags(page: &str) -> Vec<(&str, &str)> {
    page.split('<')
        .skip(1)
        .map(|part| {
            let (inside, _) = part.split_once('>').unwrap();
            (inside.split([' ', '\n']).next().unwrap(), inside)
        })
        .collect()
}

/// Panics unless the page is made of known elements, properly nested, and asks for nothing.
pub fn check(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (mut level, known) = (0, BTreeSet::from(KNOWN));
    for (name, inside) in tags(page) {
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "after {inside}");
            continue;
        }
        let name = name.trim_end_matches('/');
        assert!(known.contains(name), "<{inside}>");
        if !VOID.contains(&name) && !inside.ends_with('/') {
            open.push(name);
        }
        // Names and values take turns at the quotes.
        let pieces: Vec<&str> = inside.split('"').collect();
        for pair in pieces.chunks_exact(2) {
            let attribute = pair[0].rsplit(' ').next().unwrap().trim_end_matches('=');
            assert!(!attribute.starts_with("on") && attribute != "style", "<{inside}>");
            let loads =
                ["src", "href", "srcset", "action", "data", "poster", "xlink:href"].contains(&attribute);
            assert!(!loads || pair[1].starts_with('#') || pair[1] == "data:,", "<{inside}>");
            assert!(!pair[1].contains("url("), "<{inside}>");
        }
        if name == "th" {
            assert!(inside.contains("scope=\""), "<{inside}>");
        }
        if name == "svg" {
            assert!(inside.contains("role=\"img\"") && inside.contains("aria-label=\""), "<{inside}>");
        }
        if let Some(next) = name.strip_prefix('h').and_then(|digit| digit.parse::<usize>().ok()) {
            assert!(next <= level + 1, "heading {next} after {level}");
            level = next;
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
    assert_eq!(page.matches("<table>").count(), page.matches("<caption>").count());
    let (_, style) = page.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
}

/// The text of a page as a reader gets it, without figures: a line for each block, cells apart.
pub fn text(page: &str) -> String {
    let (_, body) = page.split_once("<body>").unwrap();
    let mut text = String::new();
    let mut hidden = false;
    for part in body.split('<').skip(1) {
        let (inside, after) = part.split_once('>').unwrap();
        match inside.split(' ').next().unwrap() {
            "svg" => hidden = true,
            "/svg" => hidden = false,
            "/h1" | "/h2" | "/h3" | "/p" | "/li" | "/tr" | "/dd" | "/caption" | "/figcaption"
            | "/summary" | "/pre" => text.push('\n'),
            "/dt" => text.push_str(": "),
            "/th" | "/td" => text.push_str(" | "),
            _ => {}
        }
        if !hidden {
            text.push_str(after);
        }
    }
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    let lines = plain.lines().map(|line| line.trim_end().trim_end_matches(" |").trim_end());
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// The part of a text between two lines that begin like this, the first one included.
pub fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(&format!("\n{from}")).unwrap() + 1;
    let end = text[start..].find(&format!("\n{to}")).unwrap();
    &text[start..start + end + 1]
}

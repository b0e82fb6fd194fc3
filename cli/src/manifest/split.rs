//! Cuts a stream into its documents, so that each can be read as the kind that it is.

/// The documents that say anything; directives and comments say nothing. Each begins with as many empty lines as lie before it, so that the line numbers
/// of its errors are those of the whole text.
///
/// A line that begins with `---` always starts a document: no scalar may hold one (YAML 1.2.2, rule 206, c-forbidden).
pub(super) fn documents(text: &str) -> Vec<String> {
    let mut documents = Vec::new();
    let mut current = String::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_start(line) {
            keep(&mut documents, &current);
            current = "\n".repeat(number);
        }
        current.push_str(line);
    }
    keep(&mut documents, &current);
    documents
}

fn is_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn keep(documents: &mut Vec<String>, document: &str) {
    let says = |line: &str| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        !line.is_empty() && !line.starts_with(['#', '%']) && line != "..."
    };
    if document.lines().any(says) {
        documents.push(document.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(documents(text), expected, "{text:?}");
    }

    #[test]
    fn streams() {
        check("", &[]);
        check("# nothing\n---\n", &[]);
        check("a: 1\n", &["a: 1\n"]);
        check("---\na: 1\n", &["---\na: 1\n"]);
        check("%YAML 1.2\n---\na: 1\n", &["\n---\na: 1\n"]);
        check("a: 1\n---\nb: 2", &["a: 1\n", "\n---\nb: 2"]);
        check("a: 1\n--- # next\n\n--- {b: 2}\n", &["a: 1\n", "\n\n\n--- {b: 2}\n"]);
        check("a: ---x\n---y: 1\n", &["a: ---x\n---y: 1\n"]);
        check("a: |\n  ---\n", &["a: |\n  ---\n"]);
    }
}

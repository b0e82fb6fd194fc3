//! What must not be printed: join tokens, with which anybody becomes a node.

/// How a token begins.
const TOKEN: &str = "berth1.";

/// A text without the tokens in it.
pub fn redact(text: &str) -> String {
    let mut parts = text.split(TOKEN);
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        said.push_str(TOKEN);
        said.push('…');
        said.push_str(
            part.trim_start_matches(|letter: char| {
                letter.is_ascii_alphanumeric() || "-_.=+/".contains(letter)
            }),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn tokens_are_left_out() {
        let check = |text, expected| assert_eq!(redact(text), expected);
        check(
            "berthd join --token berth1.ab-C_9.x= --node node-3",
            "berthd join --token berth1.… --node node-3",
        );
        check("\"berth1.a\" ended, berth1.b too", "\"berth1.…\" ended, berth1.… too");
        check("the token (berth1.x)", "the token (berth1.…)");
        check("nothing to hide", "nothing to hide");
    }
}

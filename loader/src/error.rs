//! How an error becomes the one paragraph that a user sees.

use std::error::Error;

/// What a command fails with: its own error, whatever the room it comes from.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Writes an error and what caused it, outermost first: `read train.csv: No such file or directory`.
pub(crate) fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent error says what its source says.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read train.csv")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_what_they_caused() {
        let error = Outer(io::Error::other("it is a folder"));
        assert_eq!(report(&error), "read train.csv: it is a folder");
    }
}

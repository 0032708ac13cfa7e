//! The nearest right word to a wrong one, for "did you mean".

/// The candidate that `word` is most likely a misspelling of, if any is near enough: at most a third of the letters
/// wrong. Upper and lower case count as equal. Of equally near ones the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let letters: Vec<char> = candidate.to_lowercase().chars().collect();
            let distance = distance(&word, &letters);
            (distance <= word.len().max(letters.len()) / 3).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about a wrong word: `; did you mean ..?` or the list of all right ones.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None => {
            let all: Vec<_> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
            if all.is_empty() { "; there are none".to_owned() } else { format!("; there are {}", all.join(", ")) }
        }
    }
}

/// Letters to insert, delete, replace or swap with their neighbour to turn one word into the other.
///
/// Source: optimal string alignment distance, the restricted form of Damerau (1964), doi:10.1145/363958.363994.
fn distance(from: &[char], to: &[char]) -> usize {
    // Rows `i - 2`, `i - 1` and `i` of the table of distances between prefixes.
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut row = vec![0; to.len() + 1];
    for i in 1..=from.len() {
        row[0] = i;
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before_last, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_words_find_their_right_ones() {
        let words = ["image-folder-csv", "idx", "images", "labels", "batch_size", "rgb", "gray", "shuffled"];
        let near = |word| nearest(word, words);
        assert_eq!(near("imgaes"), Some("images"));
        assert_eq!(near("image-folder"), Some("image-folder-csv"));
        assert_eq!(near("image_folder_csv"), Some("image-folder-csv"));
        assert_eq!(near("batch-size"), Some("batch_size"));
        assert_eq!(near("rbg"), Some("rgb"));
        assert_eq!(near("GREY"), Some("gray"));
        assert_eq!(near("shuffle"), Some("shuffled"));
        assert_eq!(near("cmyk"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn distance_counts_a_swap_as_one() {
        let count = |from: &str, to: &str| distance(&from.chars().collect::<Vec<_>>(), &to.chars().collect::<Vec<_>>());
        assert_eq!(count("abcd", "abdc"), 1);
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("same", "same"), 0);
    }
}

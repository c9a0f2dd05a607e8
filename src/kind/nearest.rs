//! Which of several names somebody meant.

/// Returns the known name that differs from `name` in the fewest letters, if those are few.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase().replace('_', "-");
    let distances = known.iter().map(|known| (distance(&name, known), *known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + known.len() / 4).then_some(known)
}

/// Returns how many letters must be inserted, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn few_letters_make_a_misspelling() {
        let known = ["strip-components", "add-prefix", "size", "url"];
        for (typed, meant) in [
            ("strip_components", Some("strip-components")),
            ("Strip-Component", Some("strip-components")),
            ("addprefix", Some("add-prefix")),
            ("siez", Some("size")),
            ("uri", Some("url")),
            ("mirrors", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }
}

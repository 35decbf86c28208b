//! Several names in one word of the command line. What separates them may also stand in a name: a backslash before a
//! separator, a blank or a backslash takes its meaning away. Any other backslash is one.

/// A letter, and whether it stands for itself whatever it is.
type Letter = (char, bool);

const SPECIAL: [char; 5] = ['|', '=', ',', ' ', '\\'];

/// The letters of a word.
pub(super) fn of(word: &str) -> Vec<Letter> {
    let mut letters = Vec::new();
    let mut rest = word.chars().peekable();
    while let Some(letter) = rest.next() {
        let escaped = match letter {
            '\\' => rest.next_if(|next| SPECIAL.contains(next)),
            _ => None,
        };
        letters.push((escaped.unwrap_or(letter), escaped.is_some()));
    }
    letters
}

/// The parts between separators.
pub(super) fn split(letters: &[Letter], separator: char) -> impl Iterator<Item = &[Letter]> {
    letters.split(move |letter| *letter == (separator, false))
}

/// The name that letters are.
pub(super) fn text(letters: &[Letter]) -> String {
    letters.iter().map(|(letter, _)| letter).collect()
}

/// The same without the blanks around it.
pub(super) fn trimmed(letters: &[Letter]) -> String {
    let is_blank = |(letter, escaped): &Letter| letter.is_whitespace() && !escaped;
    let first = letters.iter().position(|letter| !is_blank(letter));
    let last = letters.iter().rposition(|letter| !is_blank(letter));
    match (first, last) {
        (Some(first), Some(last)) => text(letters.get(first..=last).unwrap_or_default()),
        _ => String::new(),
    }
}

//! DECIMAL values as text, and as the integer that the server keeps: the digits without the point.

/// A number of `digits` as the server's text, the last `scale` of them behind the point. Zero has no point.
pub fn to_text(digits: i128, scale: u8) -> String {
    if digits == 0 {
        return "0".to_owned();
    }
    let scale = usize::from(scale);
    let sign = if digits < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    match digits.split_at(digits.len() - scale) {
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

/// The digits of a number that is written out, `scale` of them behind the point. `None` if it is no number, or has more
/// digits behind the point or in all.
pub fn from_text(text: &[u8], scale: u8) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = usize::from(scale).checked_sub(part.len())?;
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || !all_digits(whole) || !all_digits(part) {
        return None;
    }
    let value: i128 = format!("{whole}{part}{}", "0".repeat(missing))
        .parse()
        .ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_digits_are_the_same_number() {
        for (digits, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0"),
            (-5, 2, "-0.05"),
            (1_500, 3, "1.500"),
            (-123, 0, "-123"),
            (
                99_999_999_999_999_999_999_999_999_999_999_999_999,
                38,
                "0.99999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(to_text(digits, scale), text);
            assert_eq!(from_text(text.as_bytes(), scale), Some(digits));
        }
        assert_eq!(from_text(b"1.5", 3), Some(1_500));
        for text in ["", "-", ".", "1.2345", "1e3", "+1", "x"] {
            assert_eq!(from_text(text.as_bytes(), 3), None, "{text}");
        }
    }
}

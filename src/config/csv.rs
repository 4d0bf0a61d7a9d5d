//! One line of CSV (RFC 4180), as docker reads the values of `--mount` and `--gpus`.

/// The fields as one line. Fields with a comma, a quote or a line break are quoted.
pub fn line<'f>(fields: impl IntoIterator<Item = &'f str>) -> String {
    let quoted = fields.into_iter().map(|field| {
        let is_plain = !field.contains([',', '"', '\n', '\r']) && !field.starts_with(' ');
        if is_plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    });
    quoted.collect::<Vec<_>>().join(",")
}

/// The fields of a line. `None` for a line that docker refuses or doesn't read to its end: one with a line break, or with
/// a quote that isn't closed or that stands undoubled within a field.
pub fn fields(line: &str) -> Option<Vec<String>> {
    if line.is_empty() || line.contains(['\n', '\r']) {
        return None;
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            // The first quote that isn't doubled closes the field.
            let end = quoted.replace("\"\"", "__").find('"')?;
            field = quoted[..end].replace("\"\"", "\"");
            rest = &quoted[end + 1..];
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field = rest[..end].to_owned();
            if field.contains('"') {
                return None;
            }
            rest = &rest[end..];
        }
        fields.push(field);
        if rest.is_empty() {
            return Some(fields);
        }
        rest = rest.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::{fields, line};

    #[test]
    fn written_fields_are_read_back_unchanged() {
        for written in [&["a"][..], &["a", "b=c d"], &["", ""], &["x,y", "\"", "\"a\"\"", " b"], &["ü", ","]] {
            let read = fields(&line(written.iter().copied())).unwrap();
            assert_eq!(read, written, "{}", line(written.iter().copied()));
        }
        assert_eq!(line(["device=0,1", "x"]), "\"device=0,1\",x");
    }

    #[test]
    fn fields_that_docker_rejects_are_not_parsed() {
        for wrong in ["", "a\"b", "\"a", "\"a\"b", "\"a\"\"", "a\nb", "a\r", "\"a\nb\""] {
            assert_eq!(fields(wrong), None, "{wrong:?}");
        }
    }
}

//! A page that plays what was exported, in any browser, without a network.

use serde_json::{Map, Value};

/// The page. Rows have what was exported under `exported`.
pub(crate) fn page(rows: &[Map<String, Value>], created: &str) -> String {
    let lines: String = rows.iter().map(line).collect();
    let count = rows.len();
    let created = escaped(created);
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; media-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{count} recordings</title>
<style>
  body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .4em .8em; border-bottom: 1px solid #ddd; vertical-align: middle; }}
  th {{ position: sticky; top: 0; background: #fff; }}
  td.right {{ text-align: right; font-variant-numeric: tabular-nums; }}
  input {{ font: inherit; padding: .4em; width: 20em; margin-bottom: 1em; }}
  small {{ color: #777; }}
  audio {{ width: 22em; height: 2.2em; }}
</style>
<h1>{count} recordings</h1>
<p><small>Exported {created}. Left is the caller, right the callee; where there is one channel, both are in it.</small></p>
<input id="find" type="search" placeholder="Find a number, a name, a day" aria-label="Find">
<table>
<thead><tr><th>Start (UTC)<th>Length<th>From<th>To<th>Caused by<th>Lost<th>Sound</tr></thead>
<tbody>
{lines}</tbody>
</table>
<script>
  const rows = [...document.querySelectorAll('tbody tr')];
  const find = document.getElementById('find');
  find.addEventListener('input', () => {{
    const words = find.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words);
  }});
  document.addEventListener('play', event => {{
    for (const other of document.querySelectorAll('audio')) if (other !== event.target) other.pause();
  }}, true);
</script>
</html>
"#
    )
}

fn line(row: &Map<String, Value>) -> String {
    let text = |column: &str| match row.get(column) {
        Some(Value::String(text)) => escaped(text),
        None | Some(Value::Null) => String::new(),
        Some(other) => escaped(&other.to_string()),
    };
    let party = |side: &str| {
        let (user, display) = (text(&format!("{side}_user")), text(&format!("{side}_display")));
        if display.is_empty() { user } else { format!("{user}<br><small>{display}</small>") }
    };
    let seconds = row.get("duration_s").and_then(Value::as_f64).unwrap_or_default().round() as u64;
    let file = row.get("exported").and_then(|exported| exported.get("file")).and_then(Value::as_str);
    let file = file.unwrap_or_default();
    let sound = if file.is_empty() {
        "purged".to_owned()
    } else if file.ends_with(".age") {
        format!("<a href=\"{0}\">encrypted</a>", linked(file))
    } else {
        format!("<audio controls preload=\"none\" src=\"{0}\"></audio>", linked(file))
    };
    format!(
        "<tr><td>{}<td class=\"right\">{}:{:02}<td>{}<td>{}<td>{}<td class=\"right\">{}<td>{sound}</tr>\n",
        text("start").replace('T', " ").trim_end_matches('Z'),
        seconds / 60,
        seconds % 60,
        party("from"),
        party("to"),
        text("trigger"),
        text("lost"),
    )
}

/// As a path within the folder.
fn linked(file: &str) -> String {
    percent_encoding::utf8_percent_encode(file, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What was on the wire may be anything.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_it_is_obeyed() {
        let row = json!({
            "start": "2026-11-22T06:12:09.123Z",
            "duration_s": 61.4,
            "from_user": "1009",
            "from_display": "<script>alert(1)</script>",
            "to_user": "\"><img src=x>",
            "lost": 3,
            "exported": {"file": "a b\"'.wav", "how": "archived"},
        });
        let Value::Object(row) = row else { return };
        let page = page(&[row], "2026-11-30T00:00:00Z");
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<img"), "{page}");
        assert!(page.contains("<td class=\"right\">1:01<td>"), "{page}");
        assert!(page.contains("src=\"a%20b%22%27%2Ewav\""), "{page}");
        // No other machine is asked.
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    }

    #[test]
    fn what_has_gone_is_not_played() {
        let Value::Object(row) = json!({"exported": {"file": "", "how": "purged"}}) else { return };
        let page = page(&[row], "2026-11-30T00:00:00Z");
        assert!(page.contains("<td>purged</tr>") && !page.contains("<audio controls"), "{page}");
    }
}

//! Values as text: Go's default form, and the verbs of its `printf`.

use super::value::Value;

/// Widths and precisions beyond this are cut: they make no sense in an alert.
const MAX_WIDTH: usize = 200;

/// Go's `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Nil => "<no value>".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => general(*value, None),
        Value::Text(text) => text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) | Value::Record(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Time(seconds) => time(*seconds),
    }
}

/// As Go prints a time in UTC: `2026-11-21 08:00:00.25 +0000 UTC`.
pub(super) fn time(seconds: f64) -> String {
    let nanos = (seconds * 1e9) as i64;
    let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(nanos)) else { return general(seconds, None) };
    let text = time.to_string().replace('T', " ");
    format!("{} +0000 UTC", text.trim_end_matches('Z'))
}

/// Go's `%g`: the shortest digits, or `precision` of them; with an exponent below 1e-4 and from 1e6 on in the
/// shortest form, from 10^precision on otherwise.
pub(super) fn general(value: f64, precision: Option<usize>) -> String {
    if let Some(special) = special(value) {
        return special;
    }
    let scientific = match precision {
        Some(precision) => format!("{value:.*e}", precision.clamp(1, MAX_WIDTH) - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let digits = i32::try_from(mantissa.bytes().filter(u8::is_ascii_digit).count()).unwrap_or(i32::MAX);
    let limit = match precision {
        None => 6,
        Some(precision) => {
            let precision = i32::try_from(precision.max(1)).unwrap_or(i32::MAX);
            if precision > digits && digits > exponent { digits } else { precision }
        }
    };
    if exponent < -4 || exponent >= limit {
        return with_exponent(mantissa, exponent);
    }
    let decimals = usize::try_from(digits - 1 - exponent).unwrap_or(0);
    format!("{value:.decimals$}")
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

fn special(value: f64) -> Option<String> {
    if value.is_nan() {
        Some("NaN".into())
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf".into() } else { "-Inf".into() })
    } else {
        None
    }
}

/// What stands between `%` and the verb.
#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    zero: bool,
    blank: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `Sprintf`; what does not fit a verb is told in the text as Go tells it.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.next_if(|c| "-+0 #".contains(*c)) {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '0' => flags.zero = true,
                ' ' => flags.blank = true,
                _ => flags.sharp = true,
            }
        }
        flags.width = whole_number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            flags.precision = Some(whole_number(&mut chars).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&padded(&verbatim(verb, value, &flags), &flags, value)),
            },
        }
    }
    let left: Vec<String> =
        arguments.map(|value| format!("{}={}", value.type_name(), plain(value))).collect();
    if !left.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", left.join(", ")));
    }
    out
}

fn whole_number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
    }
    number
}

fn verbatim(verb: char, value: &Value, flags: &Flags) -> String {
    let sign = |text: String| match (flags.plus, flags.blank, text.starts_with(['-', '+'])) {
        (true, _, false) => format!("+{text}"),
        (false, true, false) => format!(" {text}"),
        _ => text,
    };
    match (verb, value) {
        ('v', Value::Float(float)) => match flags.precision {
            None => sign(plain(value)),
            precision => sign(general(*float, precision)),
        },
        ('v', Value::Int(_)) => sign(plain(value)),
        ('v' | 's', Value::Text(text)) => match flags.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.clone(),
        },
        ('v', _) => plain(value),
        ('q', Value::Text(text)) => format!("{text:?}"),
        ('t', Value::Bool(flag)) => flag.to_string(),
        ('d', Value::Int(number)) => sign(number.to_string()),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('o', Value::Int(number)) => format!("{number:o}"),
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('c', Value::Int(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f' | 'F', Value::Float(float)) => {
            sign(special(*float).unwrap_or_else(|| format!("{float:.*}", flags.precision.unwrap_or(6))))
        }
        ('e' | 'E', Value::Float(float)) => sign(special(*float).unwrap_or_else(|| {
            let text = format!("{float:.*e}", flags.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let text = with_exponent(mantissa, exponent.parse().unwrap_or(0));
            if verb == 'E' { text.to_uppercase() } else { text }
        })),
        ('g' | 'G', Value::Float(float)) => sign(general(*float, flags.precision)),
        _ => format!("%!{verb}({}={})", value.type_name(), plain(value)),
    }
}

fn padded(text: &str, flags: &Flags, value: &Value) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text.to_string();
    }
    let is_number = matches!(value, Value::Int(_) | Value::Float(_));
    if flags.minus {
        format!("{text}{}", " ".repeat(missing))
    } else if flags.zero && is_number {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (text.get(..1).unwrap_or_default(), digits),
            None => ("", text),
        };
        format!("{sign}{}{digits}", "0".repeat(missing))
    } else {
        format!("{}{text}", " ".repeat(missing))
    }
}

//! completion/: what bash, zsh and fish offer, from the helper's table of options.

use crate::generated::File;
use crate::options::{Choice, Value, choices};

/// Flags of one program: short, long, meaning.
type Flags = &'static [(&'static str, &'static str, &'static str)];

const MOUNT: Flags = &[
    ("-f", "--fake", "everything but the mount"),
    ("-s", "", "ignore unknown options"),
    ("-v", "--verbose", "say what is done"),
    ("", "--check", "tell whether a server can be reached"),
    ("-h", "--help", "help"),
    ("-V", "--version", "version"),
];
const USER: Flags = &[
    ("-f", "--foreground", "stay until it is unmounted"),
    ("-v", "--verbose", "say what is done"),
    ("", "--all", "status: of all mounts"),
    ("", "--json", "status, check: for programs"),
    ("", "--prometheus", "status: for a node exporter"),
    ("-h", "--help", "help"),
    ("-V", "--version", "version"),
];

/// The files as they should be.
pub(crate) fn files() -> Vec<File> {
    let choices = choices();
    vec![
        File { path: "completion/fuse4fs.bash", text: bash(&choices) },
        File { path: "completion/_fuse4fs", text: zsh(&choices) },
        File { path: "completion/fuse4fs.fish", text: fish(&choices) },
    ]
}

/// `ro`, `barrier` and `barrier=`, `errors=`.
fn words(choice: &Choice) -> Vec<String> {
    let name = choice.name;
    match choice.value {
        Value::None => vec![name.to_owned()],
        Value::Optional => vec![name.to_owned(), format!("{name}=")],
        Value::Needed | Value::File => vec![format!("{name}=")],
    }
}

fn bash(choices: &[Choice]) -> String {
    let all: Vec<String> = choices.iter().flat_map(words).collect();
    let values = choices.iter().filter(|choice| !choice.values.is_empty());
    let values = values.map(|it| format!("    {}) echo '{}' ;;", it.name, it.values.join(" ")));
    let files = choices.iter().filter(|choice| choice.value == Value::File);
    let files = files.map(|choice| format!("{}=*", choice.name));
    let flags = |flags: Flags| {
        let names = flags.iter().flat_map(|(short, long, _)| [*short, *long]);
        let names: Vec<_> = names.filter(|name| !name.is_empty()).chain(["-o"]).collect();
        names.join(" ")
    };
    include_str!("completion/bash")
        .replace("@WORDS@", &all.join(" "))
        .replace("@VALUES@", &lines(values))
        .replace("@FILES@", &files.collect::<Vec<_>>().join(" | "))
        .replace("@MOUNT_FLAGS@", &flags(MOUNT))
        .replace("@USER_FLAGS@", &flags(USER))
}

fn zsh(choices: &[Choice]) -> String {
    let word = |Choice { name, value, values, meaning }: &Choice| {
        let label = meaning.replace(['[', ']'], "").replace(':', "\\:").replace('\'', "'\\''");
        let offered = format!("({})", values.join(" "));
        let follows = match value {
            Value::None => String::new(),
            Value::Optional => format!("::value:{offered}"),
            Value::Needed if values.is_empty() => ":value: ".to_owned(),
            Value::Needed => format!(":value:{offered}"),
            Value::File => ":file:_files".to_owned(),
        };
        format!("        '{name}[{label}]{follows}'")
    };
    let flags = |flags: Flags| {
        let spec = |(short, long, meaning): &(&str, &str, &str)| match (*short, *long) {
            (short, "") => format!("'{short}[{meaning}]'"),
            ("", long) => format!("'{long}[{meaning}]'"),
            (short, long) => format!("'({short} {long})'{{{short},{long}}}'[{meaning}]'"),
        };
        flags.iter().map(spec).collect::<Vec<_>>().join(" ")
    };
    let words: Vec<_> = choices.iter().map(word).collect();
    include_str!("completion/zsh")
        .replace("@WORDS@", &words.join(" \\\n"))
        .replace("@MOUNT_FLAGS@", &flags(MOUNT))
        .replace("@USER_FLAGS@", &flags(USER))
}

fn fish(choices: &[Choice]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let offer = |choice: &Choice| {
        let values = choice.values.iter().map(|value| format!("{}={value}", choice.name));
        let bare = words(choice)
            .into_iter()
            .filter(|word| !word.ends_with('=') || choice.values.is_empty());
        let all: Vec<String> = bare.chain(values).collect();
        let meaning = quoted(&choice.meaning);
        all.iter().map(|word| format!("        {word} {meaning}")).collect::<Vec<_>>()
    };
    let flags = |program: &str, flags: Flags| {
        let of = |(short, long, meaning): &(&str, &str, &str)| {
            let short = short.strip_prefix('-').map(|it| format!(" -s {it}")).unwrap_or_default();
            let long = long.strip_prefix("--").map(|it| format!(" -l {it}")).unwrap_or_default();
            format!("complete -c {program}{short}{long} -d {}", quoted(meaning))
        };
        lines(flags.iter().map(of))
    };
    let words: Vec<String> = choices.iter().flat_map(offer).collect();
    include_str!("completion/fish")
        .replace("@WORDS@", &words.join(" \\\n"))
        .replace("@FLAGS@", &[flags("mount.fuse4fs", MOUNT), flags("fuse4fs", USER)].join("\n"))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

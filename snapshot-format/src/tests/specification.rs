//! The specification in the crate's documentation lists the tables as they are.

use crate::row::DataType;
use crate::tables::SPECS;

fn word(data: DataType) -> &'static str {
    match data {
        DataType::Unsigned => "unsigned",
        DataType::Signed => "signed",
        DataType::Bool => "bool",
        DataType::Float => "float",
        DataType::Text => "text",
        DataType::Bytes => "bytes",
    }
}

#[test]
fn the_documented_tables_are_the_tables() {
    let expected = SPECS.map(|table| {
        let column = |column: &crate::ColumnSpec| {
            let marks = [("!", column.essential), ("?", column.optional)]
                .map(|(mark, set)| if set { mark } else { "" })
                .concat();
            format!("`{}` ({}{marks}, {})", column.name, column.id, word(column.data))
        };
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        format!("//! | {} | `{}` | {} |", table.id, table.name, columns.join(", "))
    });
    let source = include_str!("../lib.rs");
    let found: Vec<&str> = source
        .lines()
        .skip_while(|line| *line != "//! | number | table | columns |")
        .skip(2)
        .take(SPECS.len())
        .collect();
    assert_eq!(found, expected);
}

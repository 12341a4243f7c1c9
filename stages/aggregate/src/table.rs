//! Reading, joining and writing tables.

use std::fs::File;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use polars::prelude::*;

use crate::text;

/// Reads a Parquet file.
///
/// # Errors
/// When it is missing or damaged.
pub(crate) fn read(path: &Path) -> Result<DataFrame, StageError> {
    let file = File::open(path).or_fail("cannot read", path)?;
    ParquetReader::new(file).finish().or_fail("not a Parquet table", path)
}

/// The tables below each other, by column name; what a table lacks is null. A column that is null
/// throughout in one table takes its type from another.
///
/// # Errors
/// When there are none, or a column has two types.
pub(crate) fn concat(tables: &[DataFrame], path: &Path) -> Result<DataFrame, StageError> {
    let mut columns: Vec<(PlSmallStr, DataType)> = Vec::new();
    for column in tables.iter().flat_map(DataFrame::columns) {
        match columns.iter_mut().find(|(name, _)| name == column.name()) {
            None => columns.push((column.name().clone(), column.dtype().clone())),
            // Whole numbers and fractions of one parameter meet as fractions.
            Some((_, dtype))
                if *dtype == DataType::Int64 && *column.dtype() == DataType::Float64 =>
            {
                *dtype = DataType::Float64;
            }
            Some(_) => {}
        }
    }
    let mut whole: Option<DataFrame> = None;
    for table in tables {
        let aligned = columns.iter().map(|(name, dtype)| match table.column(name) {
            Ok(column) => column.strict_cast(dtype),
            Err(_) => Ok(Column::full_null(name.clone(), table.height(), dtype)),
        });
        let aligned = aligned
            .collect::<PolarsResult<Vec<_>>>()
            .or_fail("runs differ in the type of a column", path)?;
        let table =
            DataFrame::new(table.height(), aligned).or_fail("cannot align a table", path)?;
        whole = Some(match whole {
            None => table,
            Some(above) => above.vstack(&table).or_fail("cannot join tables", path)?,
        });
    }
    let mut whole = whole.ok_or_else(|| StageError::new("there are no runs to aggregate"))?;
    whole.rechunk_mut();
    Ok(whole)
}

/// Writes a Parquet file whose bytes depend on nothing but the table.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_parquet(table: &DataFrame, path: &Path) -> Result<(), StageError> {
    let file = File::create(path).or_fail("cannot write", path)?;
    let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed);
    writer.finish(&mut table.clone()).or_fail("cannot write", path)?;
    Ok(())
}

/// Writes a CSV file; null is empty, and no text in it is a formula.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_csv(table: &DataFrame, path: &Path) -> Result<(), StageError> {
    let mut table = without_formulas(table).or_fail("cannot format", path)?;
    let mut file = File::create(path).or_fail("cannot write", path)?;
    CsvWriter::new(&mut file).finish(&mut table).or_fail("cannot write", path)
}

fn without_formulas(table: &DataFrame) -> PolarsResult<DataFrame> {
    let column = |column: &Column| -> PolarsResult<Column> {
        let name = text::csv(column.name()).into_owned();
        let Ok(values) = column.str() else { return Ok(column.clone().with_name(name.into())) };
        let values = values.iter().map(|value| value.map(|v| text::csv(v).into_owned()));
        Ok(Column::new(name.into(), values.collect::<Vec<_>>()))
    };
    let columns = table.columns().iter().map(column).collect::<PolarsResult<Vec<_>>>()?;
    DataFrame::new(table.height(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_holds_no_formula() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let table = df!("=name" => [Some("=1+1"), Some("-0.5"), None], "x" => [-1.5, 2.0, 3.0]);
        write_csv(&table.unwrap(), &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "'=name,x\n'=1+1,-1.5\n-0.5,2.0\n,3.0\n");
    }
}

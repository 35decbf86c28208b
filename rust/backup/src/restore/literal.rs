//! Tag values as SQL text.

use geozero::{ToWkt as _, wkb::Wkb};
use taos::{DataType, Value, sql};

/// The literal of a tag value.
pub(super) fn literal(data_type: DataType, value: Value<'_>) -> Result<String, String> {
    if let (DataType::Geometry, Value::Bytes(bytes)) = (data_type, value) {
        let text = Wkb(bytes.to_vec())
            .to_wkt()
            .map_err(|error| error.to_string())?;
        return Ok(sql::text(&text));
    }
    sql::literal(data_type, value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_is_written_with_all_digits() {
        let mut point = vec![1, 1, 0, 0, 0];
        point.extend_from_slice(&0.1_f64.to_le_bytes());
        point.extend_from_slice(&(-1e-7_f64).to_le_bytes());
        assert_eq!(
            literal(DataType::Geometry, Value::Bytes(&point)).unwrap(),
            "'POINT(0.1 -0.0000001)'"
        );
        assert!(literal(DataType::Geometry, Value::Bytes(b"\x01")).is_err());
    }
}

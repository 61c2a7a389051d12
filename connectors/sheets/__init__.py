"""Google Sheets as a source."""

from connectors.sheets.source import SheetsSource

__all__ = ["SheetsSource"]

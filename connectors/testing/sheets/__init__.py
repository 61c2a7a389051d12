"""A double of Google Sheets: spreadsheets, its token endpoint, its refusals."""

from connectors.testing.sheets.grid import Cell, Sheet, Spreadsheet, error
from connectors.testing.sheets.server import SheetsDouble

__all__ = ["Cell", "Sheet", "SheetsDouble", "Spreadsheet", "error"]

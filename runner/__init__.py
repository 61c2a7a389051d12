"""The async core: moves tables, waits for data; knows no source, no sensor and no platform."""

__version__ = "0.1.0"

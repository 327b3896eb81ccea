"""A sweep's runs compared: tests, tables, figures and page."""

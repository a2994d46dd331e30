//! Configuration text to a checked cluster description, with diagnostics. Pure.

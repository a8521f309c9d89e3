//! Governed tables, Flight SQL and HTTP pull.

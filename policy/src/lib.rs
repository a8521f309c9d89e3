//! ODRL policies: model, evaluation, explanation, checks, compilation and permits.

//! Values: from pipeline.yaml to a program, as they were written.

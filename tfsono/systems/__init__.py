"""What a run of each system needs to become a model: its weights in its module, and what its manifest says.

    hip, femur, head   load_run: a run folder -> its module of `inference`; manifest_of: what a SavedModel of it says
    source       where a model came from, in words that every manifest has

Which of them is asked is decided in `tfsono.predict.sources`, by the system that a folder names.
"""

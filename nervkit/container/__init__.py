"""The .nerv file: chunks, header, limits. numpy only, never torch."""

"""Language decoders that read visual context and write text."""

"""What is carried: Python objects to buffers and back.  The only room that knows pickle."""

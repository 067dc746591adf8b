"""What RFC 6455 demands of a server, sentence by sentence, and a test for each."""

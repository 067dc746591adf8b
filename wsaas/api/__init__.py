"""The REST API, by which the backend pushes to connections, closes them and looks them up."""

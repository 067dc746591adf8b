vcl 4.1;

backend gateway { .host = "127.0.0.1"; .port = "@GATEWAY@"; }
backend application { .host = "127.0.0.1"; .port = "@BACKEND@"; }

sub vcl_recv {
    if (local.socket == "back") {
        set req.backend_hint = application;
        return (pass);
    }
    set req.backend_hint = gateway;
    if (req.http.Upgrade ~ "(?i)websocket") {
        return (pipe);
    }
}

sub vcl_pipe {
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = req.http.Connection;
    }
}

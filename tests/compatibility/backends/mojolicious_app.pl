use Mojolicious::Lite -signatures;

post '/hook' => sub ($c) {
  return $c->render(json => {code => 'UNAUTHORIZED'}, status => 401)
    unless ($c->req->headers->authorization // '') eq 'Bearer ada';
  $c->render(json => {code => 'OK', groups => [substr $c->req->json->{request}{path}, 1]});
};
put '/hook' => sub ($c) {
  my $kind = $c->req->headers->content_type =~ m{^text/} ? 'text' : 'binary';
  $c->res->headers->header('Ws-Reply' => $kind);
  $c->render(data => $c->req->body);
};
del '/hook' => sub ($c) { $c->render(json => {code => $c->req->json->{code} . ''}) };

app->start;

use Mojo::Base -strict, -async_await;
use Mojo::JSON qw(encode_json);
use Mojo::Promise;
use Mojo::UserAgent;
use Mojo::Util qw(encode);

my $url   = $ARGV[0];
my $every = join '', map {chr} 0 .. 255;
my @messages = ({text => encode 'UTF-8', 'Grüße 🎉'}, {text => ''}, {binary => $every}, {binary => ''}, {binary => $every x 4096});
my $ua    = Mojo::UserAgent->new;

sub next_event {
  my ($tx, $name) = @_;
  return Mojo::Promise->new(sub { my $done = shift; $tx->once($name => sub { shift; $done->(@_) }) });
}

async sub main {
  my $tx = await $ua->websocket_p($url => {Authorization => 'Bearer ada'} => ['chat']);
  $tx->max_websocket_size(1 << 21);
  my (@same, $pushed);
  for my $message (@messages) {
    my ($kind) = keys %$message;
    my $echo = next_event($tx, $kind);
    $tx->send($message);
    push @same, (await $echo) eq $message->{$kind} ? \1 : \0;
  }
  my $push = next_event($tx, 'text');
  $tx->send({text => 'push'});
  $pushed = await $push;
  my $finish = next_event($tx, 'finish');
  $tx->send({text => 'bye'});
  my ($code, $reason) = await $finish;
  my $answered = Mojo::Promise->new(sub { my $done = shift; $ua->websocket("${url}refused" => sub { $done->($_[1]) }) });
  my $refused = await $answered;
  print encode_json(
    {subprotocol => $tx->protocol, same => \@same, pushed => $pushed, close => [$code, $reason], refused => $refused->res->code + 0});
}

main()->wait;

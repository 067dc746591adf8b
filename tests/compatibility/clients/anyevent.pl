use strict;
use warnings;
use utf8;
use AnyEvent;
use AnyEvent::WebSocket::Client;
use AnyEvent::WebSocket::Message;
use Encode qw(encode_utf8);
use JSON::PP;

my $url   = $ARGV[0];
my $every = join '', map {chr} 0 .. 255;
my @messages = (['text', 'Grüße 🎉'], ['text', ''], ['binary', $every], ['binary', ''], ['binary', $every x 4096]);

my $client = AnyEvent::WebSocket::Client->new(
  http_headers => {Authorization => 'Bearer ada'}, subprotocol => ['chat'], max_payload_size => 1 << 20);
my $socket = $client->connect($url)->recv;
my ($waiting, @arrived);
my $put = sub { push @arrived, $_[0]; $waiting->send if $waiting };
$socket->on(each_message => sub { $put->($_[1]) });
$socket->on(finish       => sub { $put->($_[0]) });

sub next_event {
  unless (@arrived) { $waiting = AE::cv; $waiting->recv; undef $waiting }
  return shift @arrived;
}

my @same;
for (@messages) {
  my ($kind, $body) = @$_;
  $socket->send(AnyEvent::WebSocket::Message->new(
    opcode => $kind eq 'text' ? 1 : 2, body => $kind eq 'text' ? encode_utf8($body) : $body));
  my $echo = next_event();
  my $is_kind = $kind eq 'text' ? $echo->is_text : $echo->is_binary;
  push @same, $is_kind && ($kind eq 'text' ? $echo->decoded_body : $echo->body) eq $body ? JSON::PP::true : JSON::PP::false;
}
$socket->send('push');
my $pushed = next_event()->decoded_body;
$socket->send('bye');
next_event();
my $refused = eval { AnyEvent::WebSocket::Client->new->connect("${url}refused")->recv; 1 } ? 101 : $@;
print encode_json({
  subprotocol => $socket->subprotocol, same => \@same, pushed => $pushed,
  close => [$socket->close_code + 0, $socket->close_reason], refused => $refused =~ /(\d{3})/ ? $1 + 0 : "$refused"});

<?php
// A backend in PHP, without a framework. It is started by:
// wsaas dev --header 'Authorization: Bearer ada-token' -- php -S localhost:{port} app.php

const USERS = ['Bearer ada-token' => 'ada', 'Bearer ben-token' => 'ben']; // in place of your users and sessions

function answer(int $status, string $code, array $more = []): never
{
    http_response_code($status);
    exit(json_encode(['code' => $code] + $more));
}

function isSigned(array $headers, string $body): bool
{
    [$id, $time, $given] = array_map(fn($name) => $headers["webhook-$name"] ?? '', ['id', 'timestamp', 'signature']);
    $key = base64_decode(substr(getenv('API_SECRET'), strlen('whsec_')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $key, true));
    $equal = array_filter(explode(' ', $given), fn($each) => hash_equals($expected, $each));
    return $key && $equal && abs(time() - (int) $time) < 300;
}

[$body, $host] = [file_get_contents('php://input'), getenv('WS_HOSTNAME')];
$headers = array_change_key_case(getallheaders());
$user = USERS[$headers['authorization'] ?? ''] ?? null;
$route = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

if (str_ends_with($route, ' /websocket') && !isSigned($headers, $body)) answer(401, 'UNAUTHORIZED');
if (str_starts_with($route, 'POST ') && !$user) answer(401, 'UNAUTHORIZED');
switch ($route) {
    case 'POST /websocket':
        answer(200, 'OK', ['context' => $user, 'groups' => ['lobby']]);
    case 'PUT /websocket':
        $kind = $headers['content-type'] === 'application/octet-stream' ? 'binary' : 'text';
        header($body === 'bye' ? 'Ws-Close: 4000 bye' : "Ws-Reply: $kind");
        exit($body);
    case 'DELETE /websocket':
        error_log(($headers['ws-context'] ?? '') . ' left: ' . json_decode($body)->code);
        answer(200, 'OK');
    case 'POST /notify':
        $uri = $_GET['to'] ?? "$host/groups/lobby";
        // One client, or the group: CONTROL_TOKEN allows more than to push.
        if (!preg_match('#^' . preg_quote($host) . '/([\w-]{30}|groups/lobby)$#D', $uri)) answer(400, 'BAD_REQUEST');
        $sent = ['Content-Type: text/plain', 'Authorization: Bearer ' . getenv('CONTROL_TOKEN')];
        $http = ['method' => 'PUT', 'header' => $sent, 'content' => $body, 'ignore_errors' => true];
        $answer = file_get_contents("http://$uri", false, stream_context_create(['http' => $http]));
        http_response_code((int) explode(' ', $http_response_header[0] ?? 'HTTP/1.1 503')[1]);
        exit($answer);
}
answer(404, 'NOT_FOUND');

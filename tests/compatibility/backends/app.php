<?php
$body = file_get_contents('php://input');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    if (($_SERVER['HTTP_AUTHORIZATION'] ?? '') !== 'Bearer ada') {
        http_response_code(401);
        exit('{"code": "UNAUTHORIZED"}');
    }
    echo json_encode(['code' => 'OK', 'groups' => [trim(json_decode($body)->request->path, '/')]]);
} elseif ($_SERVER['REQUEST_METHOD'] === 'PUT') {
    header('Ws-Reply: ' . (str_starts_with($_SERVER['CONTENT_TYPE'], 'text/') ? 'text' : 'binary'));
    echo $body;
} else {
    echo json_encode(['code' => (string) json_decode($body)->code]);
}

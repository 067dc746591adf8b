<?php
// PHP with its defaults. It is started by:
// wsaas dev --no-check -- php -S localhost:{port} app.php
$body = file_get_contents('php://input');
exit($_SERVER['REQUEST_URI'] === '/raw' ? strval(strlen($body)) : json_encode(['code' => 'OK']));

module wsaas-defaults

go 1.19

module wsaas-example

go 1.19
